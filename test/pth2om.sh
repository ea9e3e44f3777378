#!/usr/bin/env bash
# Checkpoint to ONNX to om: gaitset_submit.onnx and gaitset_submit.om for batch 1, gaitset_submit_bs16.* for 16.
#
#   bash test/pth2om.sh --checkpoint=some-encoder.ptm
#   bash test/pth2om.sh --soc_version=Ascend310P3 --cann_path=/usr/local/Ascend/ascend-toolkit
#   bash test/pth2om.sh --onnx-only                      without Ascend's converter
#
# An om runs only on the SoC it was made for, and on a CANN no older than the one that made it. Never run with a real
# atc by the authors: see README.md.
# shellcheck disable=SC2154  # options are variables that `option` names
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
option checkpoint "" "an encoder (none: the last of the config's experiment)"
option config "$ROOT/config_1p.py" "configuration"
option work_path "" "where checkpoints are kept (none: the config's)"
option output_path "$ROOT" "folder of the models"
option batch_sizes 1,16 "one model for each"
option frame_num 100 "frames of a sequence, fixed in the model"
option soc_version "" "SoC that will run the om (none: this machine's by npu-smi info, else Ascend310)"
option atc_options "" "more options of atc, such as --precision_mode=must_keep_origin_dtype"
option cann_path "" "CANN's folder (none: the sourced one, else the usual places)"
option onnx_only False "stop after the ONNX files"
parse "$@"
output_path="$(absolute "$output_path")"
[[ ",$batch_sizes" =~ ^(,[1-9][0-9]*)+$ ]] || die "--batch_sizes=$batch_sizes: must be numbers such as 1,16" 2
stems=()
for batch in ${batch_sizes//,/ }; do
  stem="$output_path/gaitset_submit"; [[ "$batch" == 1 ]] || stem="${stem}_bs$batch"
  [[ " ${stems[*]} " != *" $stem "* ]] || die "--batch_sizes=$batch_sizes: $batch is there twice" 2
  stems+=("$stem")
done
if [[ "$onnx_only" != True ]]; then
  # Everything that can be wrong with atc is told before the models are made.
  is_dry || use_cann "$cann_path"
  is_dry && soc_version="${soc_version:-<by npu-smi info>}" && python -m model.export.atc --check "${stems[@]/%/.onnx}"
  is_dry || soc_version="$(python -m model.export.atc --check --soc_version="$soc_version" --atc_options="$atc_options" \
    "${stems[@]/%/.onnx}")"
fi
is_dry || mkdir -p "$OUTPUT" "$output_path"

made=()
for batch in ${batch_sizes//,/ }; do
  stem="$output_path/gaitset_submit"; [[ "$batch" == 1 ]] || stem="${stem}_bs$batch"
  say "batch $batch: $stem.onnx"
  python pth2onnx.py --config "$(absolute "$config")" ${work_path:+--work_path "$(absolute "$work_path")"} \
    ${checkpoint:+--input_path "$(absolute "$checkpoint")"} --output_path "$stem.onnx" \
    --batch_size "$batch" --frame_num "$frame_num" --json "$OUTPUT/onnx_bs$batch.json" "${PASSED_ON[@]}"
  made+=("$OUTPUT/onnx_bs$batch.json")
  [[ "$onnx_only" != True ]] || continue
  say "batch $batch: $stem.om"
  python -m model.export.atc --soc_version="$soc_version" --atc_options="$atc_options" \
    --log_file "$OUTPUT/atc_bs$batch.log" --json "$OUTPUT/om_bs$batch.json" "$stem.onnx"
  made+=("$OUTPUT/om_bs$batch.json")
done
summary "${made[@]}" "soc_version=$([[ "$onnx_only" == True ]] && echo none || echo "$soc_version")" "folder=$output_path"
next_step "bash test/eval_acc_perf.sh --model_path=$output_path"
