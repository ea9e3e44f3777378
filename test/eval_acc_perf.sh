#!/usr/bin/env bash
# Measure the accuracy and the throughput of the deployed model on the input files of predeal.sh, by default at batch 1 and 16.
#
#   bash test/predeal.sh --input_path=/data/CASIA-B && bash test/pth2om.sh && bash test/eval_acc_perf.sh
#   bash test/eval_acc_perf.sh --runtime=benchmark --device_id=1
#   bash test/eval_acc_perf.sh --device_id=0,1,2,3                       all chips of a card
#   bash test/pth2om.sh --batch_sizes=1,4,8,16,32,64 && bash test/eval_acc_perf.sh --batch_sizes=1,4,8,16,32,64
#
# --runtime=auto uses gaitset_submit.om and gaitset_submit_bs16.om if they exist and benchmark, ais_bench or pyACL is installed.
# Otherwise it uses the ONNX files with ONNX Runtime. The reason is printed. The environment variable BENCHMARK_TOOL is the path
# of benchmark, and AIS_BENCH_PYTHON is the Python interpreter with ais_bench. --loop=100 also measures pure inference, that is,
# each model runs 100 batches of zeros without input files.
# shellcheck disable=SC2154  # `option` declares variables
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
option dataset CASIA-B "data set: CASIA-B, OUMVLP, CASIA-A or Synthetic"
option bin_path "" "folder of the input files (empty: <dataset>-bin)"
option model_path "$ROOT" "folder with the models of pth2om.sh"
option result_path "$ROOT/result" "folder for the results"
option runtime auto "runtime: auto, benchmark, ais_bench, acl or onnxruntime"
option device_id 0 "number of the chip that runs the om files, or several numbers such as 0,1,2,3 to share the list of input files"
option batch_sizes 1,16 "batch sizes of the models to run"
option loop "" "also measure pure inference with this number of batches of zeros per model (empty: no pure inference)"
option work_path "$ROOT/work" "folder whose subfolder results/ receives the tables"
option cann_path "" "folder of CANN, for om files (empty: the CANN whose environment is set, else search the usual folders)"
parse "$@"
bin_path="$(absolute "${bin_path:-$ROOT/$dataset-bin}")"
model_path="$(absolute "$model_path")"
result_path="$(absolute "$result_path")"
check_batch_sizes "$batch_sizes"
[[ -z "$loop" || "$loop" =~ ^[1-9][0-9]*$ ]] || die "--loop=$loop: must be a number of batches above 0" 2
[[ -z "${BENCHMARK_TOOL:-}" ]] || absolute_in BENCHMARK_TOOL
[[ "${AIS_BENCH_PYTHON:-}" != */* ]] || absolute_in AIS_BENCH_PYTHON # without a slash, it is the name of a command
is_dry || [[ -f "$bin_path.info" ]] || die "$bin_path.info: no such file; run test/predeal.sh first"
is_dry || mkdir -p "$OUTPUT"
if ! is_dry && [[ "$runtime" != onnxruntime ]] && compgen -G "$model_path/gaitset_submit*.om" > /dev/null; then use_cann "$cann_path"; fi

TEST=(test.py --post_process --dataset "$dataset" --bin_path "$bin_path" --work_path "$(absolute "$work_path")")
python "${TEST[@]}" --check "${PASSED_ON[@]}" # reports errors in the arguments before the model runs
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
