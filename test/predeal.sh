#!/usr/bin/env bash
# From raw silhouettes to what the deployed model reads: pretreatment, bins, the .info list.
#
#   bash test/predeal.sh --input_path=/data/CASIA-B
#   bash test/predeal.sh                                 no dataset at hand: makes synthetic walkers first
#
# Writes the aligned tree (--output_path), <dataset>-bin/, <dataset>-bin.info and the manifest.
# shellcheck disable=SC2154  # options are variables that `option` names
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
option input_path "" "raw tree (none: synthetic walkers)"
option output_path "" "aligned tree (none: work/<dataset>-pre)"
option dataset "" "CASIA-B, OUMVLP, CASIA-A or Synthetic (none: CASIA-B, or Synthetic without --input_path)"
option partition "" "JSON partition, or all (none: the config's split)"
option pid_num "" "the first N subjects train, the others get bins (none: 73, or 10 of the synthetic)"
option work_path "$ROOT/work" "where partitions and stores are kept"
option bin_path "" "folder of the bins (none: <dataset>-bin)"
option padding repeat "sequences under 100 frames: repeat (exact) or zero (as the published 95.512)"
option truncate first "longer ones: first (as published) or even"
option workers "" "processes of the pretreatment (none: all cores)"
option synthetic_path "$ROOT/work/synthetic" "where synthetic walkers are kept"
option synthetic_subjects 20 "synthetic walkers to make"
option synthetic_frames 20 "frames of each of their sequences"
option skip_bad False "leave unreadable images out instead of failing"
parse "$@"

if [[ -z "$input_path" ]]; then
  say "no --input_path: making $synthetic_subjects synthetic walkers"
  dataset="${dataset:-Synthetic}"
  pid_num="${pid_num:-10}"
  input_path="$(absolute "$synthetic_path")"
  output_path="${output_path:-$ROOT/work/synthetic-pre}"
  python -m model.synthetic --output_path "$input_path" \
    --subjects "$synthetic_subjects" --frames "$synthetic_frames" --seed 0
fi
dataset="${dataset:-CASIA-B}"
output_path="$(absolute "${output_path:-$ROOT/work/$dataset-pre}")"
bin_path="$(absolute "${bin_path:-$ROOT/$dataset-bin}")"
is_dry || mkdir -p "$OUTPUT"

say "pretreatment"
skip=(); [[ "$skip_bad" == True ]] && skip=(--skip_bad)
python pretreatment.py --input_path "$(absolute "$input_path")" --output_path "$output_path" \
  --json "$OUTPUT/pretreatment.json" ${workers:+--worker_num "$workers"} "${skip[@]}"

say "bins and list"
python test.py --pre_process --dataset "$dataset" --data_path "$output_path" --work_path "$(absolute "$work_path")" \
  --bin_path "$bin_path" --padding "$padding" --truncate "$truncate" \
  ${partition:+--partition "$partition"} ${pid_num:+--pid_num "$pid_num"} \
  --json "$OUTPUT/bins.json" "${PASSED_ON[@]}"
summary "$OUTPUT/pretreatment.json" "$OUTPUT/bins.json" "output_path=$output_path" "bin_path=$bin_path" "dataset=$dataset"
next_step "bash test/train_full_1p.sh --data_path=$output_path --dataset=$dataset, or with a checkpoint bash test/pth2om.sh"
