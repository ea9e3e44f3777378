#!/usr/bin/env bash
# Accuracy and throughput of the deployed model at batch 1 and 16, over the list that predeal.sh wrote.
#
#   bash test/predeal.sh --input_path=/data/CASIA-B && bash test/pth2om.sh && bash test/eval_acc_perf.sh
#   bash test/eval_acc_perf.sh --runtime=benchmark --device_id=1
#
# auto takes gaitset_submit.om and gaitset_submit_bs16.om if they and benchmark, ais_bench or pyACL are there, else
# the ONNX files with ONNX Runtime, and says why. BENCHMARK_TOOL and AIS_BENCH_PYTHON say where those tools are.
# shellcheck disable=SC2154  # options are variables that `option` names
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
option dataset CASIA-B "CASIA-B, OUMVLP, CASIA-A or Synthetic"
option bin_path "" "folder of the bins (none: <dataset>-bin)"
option model_path "$ROOT" "folder of the models that pth2om.sh wrote"
option result_path "$ROOT/result" "folder of the result files"
option runtime auto "auto, benchmark, ais_bench, acl or onnxruntime"
option device_id 0 "chip to run an om on"
option batch_sizes 1,16 "models to run"
option work_path "$ROOT/work" "its results/ gets the tables"
option cann_path "" "CANN's folder, for an om (none: the sourced one, else the usual places)"
parse "$@"
bin_path="$(absolute "${bin_path:-$ROOT/$dataset-bin}")"
model_path="$(absolute "$model_path")"
result_path="$(absolute "$result_path")"
[[ ",$batch_sizes" =~ ^(,[1-9][0-9]*)+$ ]] || die "--batch_sizes=$batch_sizes: must be numbers such as 1,16" 2
is_dry || [[ -f "$bin_path.info" ]] || die "$bin_path.info: no such list; run test/predeal.sh first"
is_dry || mkdir -p "$OUTPUT"
if ! is_dry && [[ "$runtime" != onnxruntime ]] && compgen -G "$model_path/gaitset_submit*.om" > /dev/null; then use_cann "$cann_path"; fi

throughput=() accuracy=()
for batch in ${batch_sizes//,/ }; do
  model="$model_path/gaitset_submit"; [[ "$batch" == 1 ]] || model="${model}_bs$batch"
  throughput+=("$OUTPUT/throughput_bs$batch.json") accuracy+=("$OUTPUT/accuracy_bs$batch.json")
  is_dry || rm -f "${throughput[-1]}" "${accuracy[-1]}"
  say "batch $batch"
  python -m model.runtime --runtime "$runtime" --model "$model" --info "$bin_path.info" --output "$result_path" \
    --device_id "$device_id" --batch_size "$batch" --json "${throughput[-1]}"
  report=(); [[ "$batch" != "${batch_sizes##*,}" ]] || report=(--report --throughput "${throughput[@]}")
  python test.py --post_process --dataset "$dataset" --bin_path "$bin_path" --work_path "$(absolute "$work_path")" \
    --result_path "$result_path/dumpOutput_device$device_id" --name "deployed_bs$batch" \
    --json "${accuracy[-1]}" "${report[@]}" "${PASSED_ON[@]}"
done

say "performance"
python -m model.runtime.performance "${throughput[@]}" --accuracy "${accuracy[@]}" --json "$OUTPUT/performance.json"
summary "${throughput[@]}" "${accuracy[@]}" "$OUTPUT/performance.json" "runtime=$runtime"
is_dry || say "report: $(absolute "$work_path")/results/deployed_bs${batch_sizes##*,}.html"
