# Functions for the scripts that train and test. Each script sets PROCESSES to the preferred number of processes before it
# sources this file.
# shellcheck shell=bash disable=SC2034,SC2154  # `option` declares and reads variables
set -euo pipefail

declare_training_options() {
  option data_path "" "aligned tree or store (empty: from the config)"
  option dataset "" "data set: CASIA-B, OUMVLP, CASIA-A or Synthetic (empty: from the config)"
  option config "$ROOT/config_$([[ $PROCESSES == 1 ]] && echo 1p || echo 8p).py" "configuration file"
  option work_path "" "folder for checkpoints, partitions and results (empty: from the config)"
  option device auto "device: auto, cpu, cuda or npu"
  # The environment variable DEVICE_ID is ignored: Ascend's launchers set it to 0, so that eight processes would share a device.
  local DEVICE_ID=""
  option device_id "" "numbers of the devices to use, such as 3 or 0,1; the environment variable is ignored (empty: the devices of the config)"
  option iters "$1" "number of iterations (empty: from the config)"
  option batch_size_p "" "subjects per batch and process (empty: from the config)"
  option batch_size_m "" "sequences per subject in a batch (empty: from the config)"
  option workers "" "number of threads that prefetch batches (empty: from the config)"
  option amp "" "mixed precision: off, torch or apex (empty: from the config)"
  option loss_scale "" "loss scale of --amp torch or apex: dynamic or a number (empty: from the config)"
  option fp32 False "NPU: keep full float32 (the default)"
  option hf32 False "NPU: allow float32 convolutions to round their operands"
  option rt2 False "NPU: disable the compilation of single operators"
  option profiling "" "record iterations with the profiler: CANN, GE or True, which are equivalent (empty: from the config)"
  option start_step -1 "first iteration of this run that the profiler records (-1: iteration 11)"
  option stop_step -1 "last iteration that the profiler records (-1: four iterations after the first)"
  option zoo_log False "end the log with the lines that the scripts of the Ascend model zoo print, such as ActualFPS, and also write the lines to a file"
}

# Print the number of processes to start: the number of visible devices, or the number of cores on a CPU, but at most PROCESSES.
processes_to_start() {
  local found
  if is_dry || ((PROCESSES == 1)); then echo "$PROCESSES"; return; fi # the Python script reports a missing device
  found="$(command "$PYTHON" -c '
import sys
from model.settings.config_file import load_config
from model.devices.opening import processes_possible, set_visible_devices
from model.common.errors import run_command

def count():
    config = load_config(sys.argv[1], processes=int(sys.argv[3]))
    set_visible_devices(config.visible_devices, sys.argv[2])
    print(processes_possible(sys.argv[2]))

run_command(count)' "$(absolute "$config")" "$device" "$PROCESSES")" || exit $?
  echo $((found < PROCESSES ? found : PROCESSES))
}

# Set TRAIN to the arguments of train.py, and USED to the number of processes to start.
prepare_training() {
  [[ "$device_id" =~ ^([0-9]+(,[0-9]+)*)?$ ]] || die "--device_id=$device_id: must be numbers such as 3 or 0,1" 2
  if [[ -n "$device_id" ]]; then
    [[ "$device" != *:* ]] || die "--device_id=$device_id and --device=$device: both select a device; give one of them" 2
    export ASCEND_RT_VISIBLE_DEVICES="$device_id" CUDA_VISIBLE_DEVICES="$device_id"
  fi
  [[ "$fp32$hf32" != TrueTrue ]] || die "--fp32 and --hf32: they exclude each other; give one of them" 2
  [[ "$fp32" == False ]] || export ALLOW_FP32=True
  [[ "$hf32" == False ]] || export ALLOW_HF32=True
  TRAIN=(train.py --config "$(absolute "$config")" --device "$device")
  [[ -z "$data_path" ]] || TRAIN+=(--data_path "$(absolute "$data_path")")
  [[ -z "$dataset" ]] || TRAIN+=(--dataset "$dataset")
  [[ -z "$work_path" ]] || TRAIN+=(--work_path "$(absolute "$work_path")")
  local name
  for name in iters batch_size_p batch_size_m amp loss_scale; do
    [[ -z "${!name}" ]] || TRAIN+=("--$name" "${!name}")
  done
  [[ -z "$workers" ]] || TRAIN+=(--num_workers "$workers")
  [[ "$rt2" == False ]] || TRAIN+=(--rt2)
  # The scripts of the model zoo write to test/output/<ASCEND_DEVICE_ID>/, and to test/output/0/ for several devices.
  local zoo_device="${device_id%%,*}"
  [[ "$zoo_log" == False ]] || TRAIN+=(--zoo_log --zoo_path "$OUTPUT/${ASCEND_DEVICE_ID:-${zoo_device:-0}}")
  [[ -z "$profiling" ]] || TRAIN+=("--profiling=$profiling" --start_step "$start_step" --stop_step "$stop_step")
  USED="$(processes_to_start)"
  TRAIN+=(--device_num "$USED")  # overrides the number of processes in the config
  if ((USED < PROCESSES)) && [[ "$(basename "$config")" == config_8p.py ]]; then
    say "config_8p.py is made for $PROCESSES processes; a suitable learning rate for $USED processes is" \
      "$(awk "BEGIN { print 1e-4 * $USED }"); set the learning rate with -- --lr RATE"
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
