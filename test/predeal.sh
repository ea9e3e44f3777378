#!/usr/bin/env bash
# Prepare raw silhouettes for the deployed model: pretreatment, input files (bins) and their .info list.
#
#   bash test/predeal.sh --input_path=/data/CASIA-B
#   bash test/predeal.sh                                 makes synthetic walkers first, because no data set is given
#
# The script writes the aligned tree (--output_path), <dataset>-bin/, <dataset>-bin.info and the manifest.
# shellcheck disable=SC2154  # `option` declares variables
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
option input_path "" "raw tree (empty: make synthetic walkers)"
option layout casia-b "layout of the raw tree: casia-b, oumvlp, casia-a or hid"
option output_path "" "aligned tree (empty: work/<dataset>-pre)"
option dataset "" "data set: CASIA-B, OUMVLP, CASIA-A or Synthetic (empty: CASIA-B, or Synthetic without --input_path)"
option partition "" "JSON partition, or all (empty: split by --pid_num)"
option pid_num "" "number of training subjects; input files are written for the other subjects (empty: 73, or 10 for synthetic walkers)"
option work_path "$ROOT/work" "folder for partitions and stores"
option bin_path "" "folder of the input files (empty: <dataset>-bin)"
option padding repeat "padding of sequences with fewer than 100 frames: repeat (exact), or zero (as for the published rank-1 of 95.512 %)"
option truncate first "frames to keep of sequences with more than 100 frames: first (as published) or even (evenly spread)"
option workers "" "number of worker processes of the pretreatment (empty: one per core)"
option synthetic_path "$ROOT/work/synthetic" "folder for synthetic walkers"
option synthetic_subjects 20 "number of synthetic walkers"
option synthetic_frames 20 "number of frames per synthetic sequence"
option invert False "read silhouettes that are black on a white background"
option skip_bad False "skip unreadable images instead of failing"
parse "$@"
if [[ -n "$partition" && "$partition" != all ]]; then absolute_in partition; must_exist --partition "$partition"; fi
no_input="$([[ -z "$input_path" ]] && echo True || echo False)"
if [[ "$no_input" == True ]]; then
  dataset="${dataset:-Synthetic}"
  pid_num="${pid_num:-10}"
  input_path="$synthetic_path"
  output_path="${output_path:-$ROOT/work/synthetic-pre}"
fi
dataset="${dataset:-CASIA-B}"
input_path="$(absolute "$input_path")"
output_path="$(absolute "${output_path:-$ROOT/work/$dataset-pre}")"
bin_path="$(absolute "${bin_path:-$ROOT/$dataset-bin}")"
BINS=(test.py --pre_process --dataset "$dataset" --data_path "$output_path" --work_path "$(absolute "$work_path")"
  --bin_path "$bin_path" --padding "$padding" --truncate "$truncate"
  ${partition:+--partition "$partition"} ${pid_num:+--pid_num "$pid_num"} --json "$OUTPUT/bins.json" "${PASSED_ON[@]}")
python "${BINS[@]}" --check # reports errors in the arguments before the pretreatment starts
is_dry || mkdir -p "$OUTPUT"

if [[ "$no_input" == True ]]; then
  say "no --input_path is given: making $synthetic_subjects synthetic walkers"
  python -m model.synthetic --output_path "$input_path" \
    --subjects "$synthetic_subjects" --frames "$synthetic_frames" --seed 0
fi

say "pretreatment"
flags=(); [[ "$invert" == True ]] && flags+=(--invert)
[[ "$skip_bad" == True ]] && flags+=(--skip_bad)
python pretreatment.py --input_path "$input_path" --output_path "$output_path" \
  --layout "$layout" --json "$OUTPUT/pretreatment.json" ${workers:+--worker_num "$workers"} "${flags[@]}"

say "input files (bins) and their list"
python "${BINS[@]}"
summary "$OUTPUT/pretreatment.json" "$OUTPUT/bins.json" "output_path=$output_path" "bin_path=$bin_path" "dataset=$dataset"
next_step "bash test/train_full_1p.sh --data_path=$(quoted "$output_path") --dataset=$dataset, or bash test/pth2om.sh if you have a checkpoint"
