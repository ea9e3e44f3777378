#!/usr/bin/env bash
# Checkpoint to ONNX to om: gaitset_submit.onnx and gaitset_submit.om for batch 1, gaitset_submit_bs16.* for 16.
#
#   bash test/pth2om.sh --checkpoint=some-encoder.ptm --soc_version=Ascend310
#   bash test/pth2om.sh --onnx-only                      without Ascend's converter
#
# An om runs only on the SoC it was made for. Never run with a real atc by the authors: see README.md.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
option checkpoint "" "an encoder (none: the last of the config's experiment)"
option config "$ROOT/config_1p.py" "configuration"
option work_path "" "where checkpoints are kept (none: the config's)"
option output_path "$ROOT" "folder of the models"
option batch_sizes 1,16 "one model for each"
option frame_num 100 "frames of a sequence, fixed in the model"
option soc_version Ascend310 "for atc: Ascend and the name that npu-smi info shows"
option onnx_only False "stop after the ONNX files"
parse "$@"
output_path="$(absolute "$output_path")"
mkdir -p "$OUTPUT" "$output_path"

if [[ "$onnx_only" != True ]] && ! command -v atc > /dev/null; then
  die "atc is not on the PATH: source CANN's set_env.sh, or give --onnx-only to stop after the ONNX files"
fi

made=()
for batch in ${batch_sizes//,/ }; do
  stem="$output_path/gaitset_submit"; [[ "$batch" == 1 ]] || stem="${stem}_bs$batch"
  say "batch $batch: $stem.onnx"
  python pth2onnx.py --config "$(absolute "$config")" ${work_path:+--work_path "$(absolute "$work_path")"} \
    ${checkpoint:+--input_path "$(absolute "$checkpoint")"} --output_path "$stem.onnx" \
    --batch_size "$batch" --frame_num "$frame_num" --json "$OUTPUT/onnx_bs$batch.json" "${PASSED_ON[@]}"
  made+=("$OUTPUT/onnx_bs$batch.json")
  [[ "$onnx_only" == True ]] && continue
  say "batch $batch: $stem.om"
  atc --framework=5 --model="$stem.onnx" --output="$stem" --soc_version="$soc_version" \
    --input_shape="image_seq:$batch,$frame_num,64,44" | tee "$OUTPUT/atc_bs$batch.log" || die "atc failed; its output is in $OUTPUT/atc_bs$batch.log"
  grep -q 'ATC run success' "$OUTPUT/atc_bs$batch.log" || die "atc did not report success; see $OUTPUT/atc_bs$batch.log"
  # With some settings atc adds system and processor to the name. What an earlier run left does not count.
  written=""
  for om in "$stem.om" "$stem"_linux_*.om; do [[ "$om" -nt "$stem.onnx" ]] && written="$om"; done
  [[ -n "$written" ]] || die "atc reported success but wrote no $stem.om"
done
summary "${made[@]}" "soc_version=$([[ "$onnx_only" == True ]] && echo none || echo "$soc_version")" "folder=$output_path"
