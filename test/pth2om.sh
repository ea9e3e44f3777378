#!/usr/bin/env bash
# Convert a checkpoint to ONNX and om: gaitset_submit.onnx and .om for batch 1, gaitset_submit_bs16.* for batch 16.
#
#   bash test/pth2om.sh --checkpoint=some-encoder.ptm
#   bash test/pth2om.sh --soc_version=Ascend310P3 --cann_path=/usr/local/Ascend/ascend-toolkit
#   bash test/pth2om.sh --onnx-only                      writes only the ONNX files, without atc
#   bash test/pth2om.sh --aoe                            tunes the operators first, on a machine with the NPU (takes hours)
#   bash test/pth2om.sh --aoe=both                       tunes the subgraphs, then the operators
#
# An om file runs only on the SoC for which it was built, and only with the CANN version that built it or a newer version.
# This script was never run with a real atc; see model/docs/ascend.md.
# shellcheck disable=SC2154  # `option` declares variables
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
option checkpoint "" "encoder (empty: the newest checkpoint of the config)"
option config "$ROOT/config_1p.py" "configuration file"
option work_path "" "folder of the checkpoints (empty: from the config)"
option output_path "$ROOT" "folder of the models"
option batch_sizes 1,16 "batch sizes; one model is written for each batch size"
option frame_num 100 "number of frames per sequence in the input of the model"
option soc_version "" "SoC for which the om files are built (empty: from npu-smi info, else Ascend310)"
option atc_options "" "additional options of atc, such as --op_select_implmode=high_precision; paths in them start at the current folder (empty: none)"
option precision "" "precision of the om files: fp16, fp32 or mixed (empty: atc's default, fp16)"
option aoe "" "tune with CANN's aoe before atc runs: 1 (subgraphs), 2 (operators) or both; --aoe alone means 2 (empty: no tuning)"
option cann_path "" "folder of CANN (empty: the CANN whose environment is set, else search the usual folders)"
option onnx_only False "stop after the ONNX files"
parse "${@/%--aoe/--aoe=2}"
case "${aoe,,}" in
  true) aoe=2 ;;
  false) aoe="" ;;
  "" | 1 | 2 | both) aoe="${aoe,,}" ;;
  *) die "--aoe=$aoe: must be 1 (subgraphs), 2 (operators) or both" 2 ;;
esac
output_path="$(absolute "$output_path")"
check_batch_sizes "$batch_sizes"
stems=()
for batch in ${batch_sizes//,/ }; do stems+=("$(model_stem "$output_path" "$batch")"); done
atc=(--atc_options="$atc_options" --relative_to="$CALLED_FROM" --precision="$precision" ${aoe:+"--aoe=$aoe"})
if [[ "$onnx_only" != True ]]; then
  # Report all problems with atc before the models are exported.
  is_dry || use_cann "$cann_path"
  is_dry && soc_version="${soc_version:-<by npu-smi info>}" && python -m model.export.atc --check "${stems[@]/%/.onnx}"
  is_dry || soc_version="$(python -m model.export.atc --check --soc_version="$soc_version" "${atc[@]}" "${stems[@]/%/.onnx}")"
fi
is_dry || mkdir -p "$OUTPUT" "$output_path"

made=()
for batch in ${batch_sizes//,/ }; do
  stem="$(model_stem "$output_path" "$batch")"
  say "batch $batch: $stem.onnx"
  python pth2onnx.py --config "$(absolute "$config")" ${work_path:+--work_path "$(absolute "$work_path")"} \
    ${checkpoint:+--input_path "$(absolute "$checkpoint")"} --output_path "$stem.onnx" \
    --batch_size "$batch" --frame_num "$frame_num" --json "$OUTPUT/onnx_bs$batch.json" "${PASSED_ON[@]}"
  made+=("$OUTPUT/onnx_bs$batch.json")
  [[ "$onnx_only" != True ]] || continue
  say "batch $batch: $stem.om"
  python -m model.export.atc --soc_version="$soc_version" "${atc[@]}" \
    --log_file "$OUTPUT/atc_bs$batch.log" --json "$OUTPUT/om_bs$batch.json" "$stem.onnx"
  made+=("$OUTPUT/om_bs$batch.json")
done
summary "${made[@]}" "soc_version=$([[ "$onnx_only" == True ]] && echo none || echo "$soc_version")" "folder=$output_path"
next_step "bash test/eval_acc_perf.sh --model_path=$(quoted "$output_path")"
