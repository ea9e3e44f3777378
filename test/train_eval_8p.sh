#!/usr/bin/env bash
# Accuracy of a checkpoint: cross-view rank-1, the embeddings made by all devices.
#
#   bash test/train_eval_8p.sh --data_path=work/CASIA-B-pre
#   bash test/train_eval_8p.sh --checkpoint=some-encoder.ptm --device=cpu
# shellcheck disable=SC2154  # options are variables that `option` names
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
PROCESSES=8
source "$ROOT/test/train_common.sh"
option data_path "" "aligned tree or store (none: the config's dataset_path)"
option dataset "" "CASIA-B, OUMVLP, CASIA-A or Synthetic (none: the config's)"
option config "$ROOT/config_8p.py" "configuration"
option work_path "" "where checkpoints, partitions and results are kept (none: the config's)"
option checkpoint "" "an encoder (none: the experiment's of --iter)"
option iter "-1" "iteration of the checkpoint; -1: the last"
option device auto "auto, cpu, cuda or npu"
option batch_size 16 "sequences at once"
option rt2 False "NPU: no compilation of single operators (no new one for every shape)"
parse "$@"

TEST=(test.py --config "$(absolute "$config")" --device "$device" --batch_size "$batch_size")
[[ -z "$data_path" ]] || TEST+=(--data_path "$(absolute "$data_path")")
[[ -z "$dataset" ]] || TEST+=(--dataset "$dataset")
[[ -z "$work_path" ]] || TEST+=(--work_path "$(absolute "$work_path")")
[[ "$rt2" == False ]] || TEST+=(--rt2)
if [[ -n "$checkpoint" ]]; then TEST+=(--checkpoint "$(absolute "$checkpoint")"); else TEST+=(--iter "$iter"); fi
USED="$(processes_shown)"
((USED == PROCESSES)) || say "$PROCESSES processes would be best; found devices or cores for $USED, using $USED"
is_dry || mkdir -p "$OUTPUT"
launch "$USED" "${TEST[@]}" --json "$OUTPUT/accuracy.json" "${PASSED_ON[@]}"
summary "$OUTPUT/accuracy.json" "processes=$USED"
