#!/usr/bin/env bash
# Test a checkpoint: cross-view rank-1, with embeddings computed on all devices.
#
#   bash test/train_eval_8p.sh --data_path=work/CASIA-B-pre
#   bash test/train_eval_8p.sh --checkpoint=some-encoder.ptm --device=cpu
# shellcheck disable=SC2154  # `option` declares variables
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
PROCESSES=8
source "$ROOT/test/train_common.sh"
option data_path "" "aligned tree or store (empty: from the config)"
option dataset "" "data set: CASIA-B, OUMVLP, CASIA-A or Synthetic (empty: from the config)"
option config "$ROOT/config_8p.py" "configuration file"
option work_path "" "folder for checkpoints, partitions and results (empty: from the config)"
option checkpoint "" "encoder to test (empty: the checkpoint of the config and --iter)"
option iter "-1" "iteration of the checkpoint to test (-1: the newest checkpoint)"
option device auto "device: auto, cpu, cuda or npu"
option batch_size 16 "sequences per batch"
option rt2 False "NPU: disable the compilation of single operators"
parse "$@"

TEST=(test.py --config "$(absolute "$config")" --device "$device" --batch_size "$batch_size")
[[ -z "$data_path" ]] || TEST+=(--data_path "$(absolute "$data_path")")
[[ -z "$dataset" ]] || TEST+=(--dataset "$dataset")
[[ -z "$work_path" ]] || TEST+=(--work_path "$(absolute "$work_path")")
[[ "$rt2" == False ]] || TEST+=(--rt2)
if [[ -n "$checkpoint" ]]; then TEST+=(--checkpoint "$(absolute "$checkpoint")"); else TEST+=(--iter "$iter"); fi
USED="$(processes_to_start)"
((USED == PROCESSES)) || say "found devices or cores for $USED of $PROCESSES processes, using $USED"
is_dry || mkdir -p "$OUTPUT"
launch "$USED" "${TEST[@]}" --json "$OUTPUT/accuracy.json" "${PASSED_ON[@]}"
summary "$OUTPUT/accuracy.json" "processes=$USED"
