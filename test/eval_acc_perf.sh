#!/usr/bin/env bash
# Measure accuracy and throughput of the deployed model, by default at batch 1 and 16, on the files that predeal.sh wrote.
#
#   bash test/predeal.sh --input_path=/data/CASIA-B && bash test/pth2om.sh && bash test/eval_acc_perf.sh
#   bash test/eval_acc_perf.sh --runtime=benchmark --device_id=1
#   bash test/eval_acc_perf.sh --device_id=0,1,2,3                       all chips of a card
#   bash test/pth2om.sh --batch_sizes=1,4,8,16,32,64 && bash test/eval_acc_perf.sh --batch_sizes=1,4,8,16,32,64
#
# auto uses gaitset_submit.om and gaitset_submit_bs16.om if they exist and benchmark, ais_bench or pyACL is installed, else the
# ONNX files with ONNX Runtime, and prints the reason. BENCHMARK_TOOL and AIS_BENCH_PYTHON are the paths of the tools.
# --loop=100 also measures pure inference: 100 batches of zeros per model.
# shellcheck disable=SC2154  # `option` declares variables
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
option dataset CASIA-B "data set: CASIA-B, OUMVLP, CASIA-A or Synthetic"
option bin_path "" "folder of the input files (empty: <dataset>-bin)"
option model_path "$ROOT" "folder with the models of pth2om.sh"
option result_path "$ROOT/result" "folder for the results"
option runtime auto "runtime: auto, benchmark, ais_bench, acl or onnxruntime"
option device_id 0 "number of the chip for an om, or several such as 0,1,2,3, which share the list"
option batch_sizes 1,16 "batch sizes of the models to run"
option loop "" "batches of zeros per model, also measured without input files (empty: none)"
option work_path "$ROOT/work" "folder in whose results/ the tables are written"
option cann_path "" "folder of CANN for an om (empty: the one in the environment, else the usual folders)"
parse "$@"
bin_path="$(absolute "${bin_path:-$ROOT/$dataset-bin}")"
model_path="$(absolute "$model_path")"
result_path="$(absolute "$result_path")"
check_batch_sizes "$batch_sizes"
[[ -z "$loop" || "$loop" =~ ^[1-9][0-9]*$ ]] || die "--loop=$loop: must be a number of batches above 0" 2
[[ -z "${BENCHMARK_TOOL:-}" ]] || absolute_in BENCHMARK_TOOL
[[ "${AIS_BENCH_PYTHON:-}" != */* ]] || absolute_in AIS_BENCH_PYTHON # else the name of a command
is_dry || [[ -f "$bin_path.info" ]] || die "$bin_path.info: no such file; run test/predeal.sh first"
is_dry || mkdir -p "$OUTPUT"
if ! is_dry && [[ "$runtime" != onnxruntime ]] && compgen -G "$model_path/gaitset_submit*.om" > /dev/null; then use_cann "$cann_path"; fi

TEST=(test.py --post_process --dataset "$dataset" --bin_path "$bin_path" --work_path "$(absolute "$work_path")")
python "${TEST[@]}" --check "${PASSED_ON[@]}" # errors in the arguments, before the model runs
throughput=() accuracy=() pure=()
for batch in ${batch_sizes//,/ }; do
  model="$(model_stem "$model_path" "$batch")"
  throughput+=("$OUTPUT/throughput_bs$batch.json") accuracy+=("$OUTPUT/accuracy_bs$batch.json")
  is_dry || rm -f "${throughput[-1]}" "${accuracy[-1]}"
  say "batch $batch"
  python -m model.runtime --runtime "$runtime" --model "$model" --info "$bin_path.info" --output "$result_path" \
    --device_id "$device_id" --batch_size "$batch" --json "${throughput[-1]}"
  if [[ -n "$loop" ]]; then
    pure+=("$OUTPUT/pure_bs$batch.json")
    python -m model.runtime --runtime "$runtime" --model "$model" --loop "$loop" --output "$result_path" \
      --device_id "$device_id" --batch_size "$batch" --json "${pure[-1]}"
  fi
  report=(); [[ "$batch" != "${batch_sizes##*,}" ]] || report=(--report --throughput "${throughput[@]}" "${pure[@]}")
  python "${TEST[@]}" --result_path "$result_path/dumpOutput_device${device_id%%,*}" --name "deployed_bs$batch" \
    --json "${accuracy[-1]}" "${report[@]}" "${PASSED_ON[@]}"
done

say "performance"
python -m model.runtime.performance "${throughput[@]}" "${pure[@]}" --accuracy "${accuracy[@]}" --json "$OUTPUT/performance.json"
summary "${throughput[@]}" "${pure[@]}" "${accuracy[@]}" "$OUTPUT/performance.json" "runtime=$runtime"
is_dry || say "report: $(absolute "$work_path")/results/deployed_bs${batch_sizes##*,}.html"
