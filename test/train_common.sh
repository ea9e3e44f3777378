# What the drivers of training and its evaluation share; they set PROCESSES (how many would be best) and source it.
# shellcheck shell=bash disable=SC2154  # options are variables that `option` names
set -euo pipefail

declare_training_options() {
  option data_path "" "aligned tree or store (none: the config's dataset_path)"
  option dataset "" "CASIA-B, OUMVLP, CASIA-A or Synthetic (none: the config's)"
  option config "$ROOT/config_$([[ $PROCESSES == 1 ]] && echo 1p || echo 8p).py" "configuration"
  option work_path "" "where checkpoints, partitions and results are kept (none: the config's)"
  option device auto "auto, cpu, cuda or npu"
  option iters "$1" "iterations (none: the config's)"
  option rt2 False "NPU: no compilation of single operators (no new one for every shape)"
  option profiling "" "record some iterations: CANN, GE or True, which do the same (none: do not)"
  option start_step -1 "the first that is recorded, counted in this run (-1: 11)"
  option stop_step -1 "the last (-1: four after the first)"
}

# How many processes to start: as many as there are devices that the config lets them see (on the CPU, cores), and
# PROCESSES at most.
processes_shown() {
  local found
  if is_dry; then echo "$PROCESSES"; return; fi
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

# Arguments of train.py from the options, in TRAIN; how many processes, in USED.
prepare_training() {
  TRAIN=(train.py --config "$(absolute "$config")" --device "$device")
  [[ -z "$data_path" ]] || TRAIN+=(--data_path "$(absolute "$data_path")")
  [[ -z "$dataset" ]] || TRAIN+=(--dataset "$dataset")
  [[ -z "$work_path" ]] || TRAIN+=(--work_path "$(absolute "$work_path")")
  [[ -z "$iters" ]] || TRAIN+=(--iters "$iters")
  [[ "$rt2" == False ]] || TRAIN+=(--rt2)
  [[ -z "$profiling" ]] || TRAIN+=("--profiling=$profiling" --start_step "$start_step" --stop_step "$stop_step")
  USED="$(processes_shown)"
  if ((USED < PROCESSES)) && [[ "$(basename "$config")" == config_8p.py ]]; then
    say "config_8p.py is made for $PROCESSES processes; for $USED the learning rate that fits its batch is about" \
      "$(awk "BEGIN { print 1e-4 * $USED }"): give -- --lr RATE"
  fi
  ((USED == PROCESSES)) || say "$PROCESSES processes would be best; found devices or cores for $USED, using $USED"
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
