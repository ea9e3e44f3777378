#!/usr/bin/env bash
# Accuracy and throughput of the deployed model at batch 1 and 16, over the list that predeal.sh wrote.
#
#   bash test/predeal.sh --input_path=/data/CASIA-B && bash test/pth2om.sh --onnx-only && bash test/eval_acc_perf.sh
#
# The runtime is named in the output. Here it is ONNX Runtime on the exported models.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
option dataset CASIA-B "CASIA-B, OUMVLP, CASIA-A or Synthetic"
option bin_path "" "folder of the bins (none: <dataset>-bin)"
option model_path "$ROOT" "folder of the models that pth2om.sh wrote"
option result_path "$ROOT/result" "folder of the result files"
option runtime onnxruntime "what runs the model"
option batch_sizes 1,16 "models to run"
option work_path "$ROOT/work" "its results/ gets the tables"
parse "$@"
bin_path="$(absolute "${bin_path:-$ROOT/$dataset-bin}")"
model_path="$(absolute "$model_path")"
result_path="$(absolute "$result_path")"
[[ -f "$bin_path.info" ]] || die "$bin_path.info: no such list; run test/predeal.sh first"
mkdir -p "$OUTPUT"

made=()
for batch in ${batch_sizes//,/ }; do
  model="$model_path/gaitset_submit"; [[ "$batch" == 1 ]] || model="${model}_bs$batch"
  [[ -f "$model.onnx" ]] || die "$model.onnx: no such model; run test/pth2om.sh --onnx-only --batch_sizes=$batch first"
  say "batch $batch with $runtime"
  python -m model.runtime --runtime "$runtime" --model "$model.onnx" --info "$bin_path.info" \
    --output "$result_path" --json "$OUTPUT/throughput_bs$batch.json"
  python test.py --post_process --dataset "$dataset" --bin_path "$bin_path" --work_path "$(absolute "$work_path")" \
    --result_path "$result_path/dumpOutput_device0" --name "deployed_bs$batch" \
    --json "$OUTPUT/accuracy_bs$batch.json" "${PASSED_ON[@]}"
  made+=("$OUTPUT/throughput_bs$batch.json" "$OUTPUT/accuracy_bs$batch.json")
done
summary "${made[@]}" "runtime=$runtime"
