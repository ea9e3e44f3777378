# Functions for the scripts that train and test. They set PROCESSES, the preferred number of processes, and source this file.
# shellcheck shell=bash disable=SC2154  # `option` declares variables
set -euo pipefail

declare_training_options() {
  option data_path "" "aligned tree or store (empty: from the config)"
  option dataset "" "data set: CASIA-B, OUMVLP, CASIA-A or Synthetic (empty: from the config)"
  option config "$ROOT/config_$([[ $PROCESSES == 1 ]] && echo 1p || echo 8p).py" "configuration file"
  option work_path "" "folder for checkpoints, partitions and results (empty: from the config)"
  option device auto "device: auto, cpu, cuda or npu"
  option iters "$1" "number of iterations (empty: from the config)"
  option rt2 False "NPU: disable the compilation of single operators"
  option profiling "" "record some iterations with the profiler: CANN, GE or True, which are equivalent (empty: off)"
  option start_step -1 "first recorded iteration of this run (-1: 11)"
  option stop_step -1 "last recorded iteration (-1: four after the first)"
}

# Print the number of processes to start: the number of visible devices, or of CPU cores, but at most PROCESSES.
processes_to_start() {
  local found
  if is_dry || ((PROCESSES == 1)); then echo "$PROCESSES"; return; fi # the script itself reports a missing device
  found="$(command "$PYTHON" -c '
import sys
from model.config import load_config
from model.devices.device import processes_possible, set_visible_devices
from model.common.errors import run_command

def count():
    set_visible_devices(load_config(sys.argv[1]).visible_devices, sys.argv[2])
    print(processes_possible(sys.argv[2]))

run_command(count)' "$(absolute "$config")" "$device")" || exit $?
  echo $((found < PROCESSES ? found : PROCESSES))
}

# Set TRAIN to the arguments of train.py, and USED to the number of processes.
prepare_training() {
  TRAIN=(train.py --config "$(absolute "$config")" --device "$device")
  [[ -z "$data_path" ]] || TRAIN+=(--data_path "$(absolute "$data_path")")
  [[ -z "$dataset" ]] || TRAIN+=(--dataset "$dataset")
  [[ -z "$work_path" ]] || TRAIN+=(--work_path "$(absolute "$work_path")")
  [[ -z "$iters" ]] || TRAIN+=(--iters "$iters")
  [[ "$rt2" == False ]] || TRAIN+=(--rt2)
  [[ -z "$profiling" ]] || TRAIN+=("--profiling=$profiling" --start_step "$start_step" --stop_step "$stop_step")
  USED="$(processes_to_start)"
  if ((USED < PROCESSES)) && [[ "$(basename "$config")" == config_8p.py ]]; then
    say "config_8p.py is made for $PROCESSES processes; for $USED processes, a suitable learning rate is" \
      "$(awk "BEGIN { print 1e-4 * $USED }"); set it with -- --lr RATE"
  fi
  ((USED == PROCESSES)) || say "found devices or cores for $USED of $PROCESSES processes, using $USED"
  is_dry || mkdir -p "$OUTPUT"
}

train_full() {
  declare_training_options ""
  parse "$@"
  prepare_training
  launch "$USED" "${TRAIN[@]}" --json "$OUTPUT/training.json" "${PASSED_ON[@]}"
  summary "$OUTPUT/training.json" "processes=$USED" "config=$config"
  next_step "bash test/train_eval_8p.sh (accuracy), bash test/pth2om.sh (deployment)"
}

train_performance() {
  declare_training_options 200
  parse "$@"
  prepare_training
  launch "$USED" "${TRAIN[@]}" --performance --json "$OUTPUT/performance.json" "${PASSED_ON[@]}"
  summary "$OUTPUT/performance.json" "processes=$USED" "config=$config"
}
