#!/usr/bin/env bash
# Run the whole chain on synthetic walkers, from the installation to a rank-1 table and a report, on any machine.
# On a machine with two cores, this takes about five minutes including the installation.
#
#   bash test/quickstart.sh
#
# The training and the sequences are much shorter than for real data. The result shows that the chain works. It does not show
# the accuracy that the full recipe reaches.
# shellcheck disable=SC2154  # `option` declares variables
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
option subjects 36 "number of synthetic walkers"
option pid_num 20 "number of training subjects; the others are test subjects"
option frames 20 "number of frames per sequence"
option iters 160 "number of training iterations"
option device auto "device: auto, cpu, cuda or npu"
option seed 0 "random seed of walkers and training"
option work_path "$ROOT/work/quickstart" "folder for all files"
parse "$@"
work_path="$(absolute "$work_path")"
for name in subjects pid_num frames iters seed; do
  [[ "${!name}" =~ ^[0-9]{1,9}$ ]] || die "--$name=${!name}: must be a whole number of at most nine digits" 2
done
((10#$pid_num >= 2 && 10#$pid_num < 10#$subjects)) ||
  die "--pid_num=$pid_num: must be at least 2 and less than --subjects=$subjects, because the others are test subjects" 2
[[ "$device" =~ ^(auto|cpu|(cuda|npu)(:[0-9]+)?)$ ]] || die "--device=$device: must be auto, cpu, cuda or npu" 2
started=$SECONDS
install requirements.txt
is_dry || mkdir -p "$work_path" "$OUTPUT"
DATA=(--dataset Synthetic --data_path "$work_path/walkers-pre" --pid_num "$pid_num" --work_path "$work_path")

say "1 of 7: generate $subjects synthetic walkers with ten takes and eleven views"
python -m model.synthetic --output_path "$work_path/walkers" --subjects "$subjects" --frames "$frames" --seed "$seed"

say "2 of 7: align the silhouettes"
python pretreatment.py --input_path "$work_path/walkers" --output_path "$work_path/walkers-pre" \
  --log_file "$work_path/pretreatment.log" --json "$OUTPUT/pretreatment.json"

say "3 of 7: test the bundled encoder, which was trained longer on other walkers, on the $((10#$subjects - 10#$pid_num)) test subjects"
bundled="$(command "$PYTHON" -c 'from model.checkpoints.bundled import bundled_encoder; print(bundled_encoder() or "")')"
if [[ -n "$bundled" ]]; then
  python test.py "${DATA[@]}" --device "$device" --checkpoint "$bundled" --name bundled --json "$OUTPUT/bundled.json" --report
  is_dry || say "$((SECONDS - started)) s; report of the bundled encoder: $work_path/results/bundled.html"
else
  say "the bundled encoder is missing in work/checkpoint/GaitSet, so it is not tested"
fi

say "4 of 7: train on the first $pid_num subjects for $iters iterations"
python train.py "${DATA[@]}" --device "$device" --seed "$seed" --iters "$iters" --lr 1e-3 \
  --batch_size_p 6 --batch_size_m 4 --frame_num 6 --log_iter 20 --json "$OUTPUT/training.json" "${PASSED_ON[@]}"
checkpoint="<checkpoint of step 4>"
is_dry || checkpoint="$(command "$PYTHON" -c 'import json, sys; print(json.load(open(sys.argv[1]))["checkpoint"])' "$OUTPUT/training.json")"
experiment="$(basename "$checkpoint" -encoder.ptm)"
REPORT=(--report --throughput "$OUTPUT/throughput.json")
log="$work_path/log/${experiment%-*}/train.jsonl"
[[ ! -e "$log" ]] || REPORT+=(--train_log "$log") # a training of less than 20 iterations writes no log

say "5 of 7: export the trained network to ONNX with batch size 16"
python pth2onnx.py --input_path "$checkpoint" --output_path "$work_path/gaitset_submit_bs16.onnx" \
  --batch_size 16 --frame_num "$frames" --json "$OUTPUT/onnx.json"

say "6 of 7: test the deployed model on the same subjects: write input files, run ONNX Runtime, compute the accuracy"
BINS=(--bin_path "$work_path/Synthetic-bin" --bin_frames "$frames")
python test.py --pre_process "${DATA[@]}" "${BINS[@]}"
python -m model.runtime --runtime onnxruntime --model "$work_path/gaitset_submit_bs16.onnx" \
  --info "$work_path/Synthetic-bin.info" --output "$work_path/result" --json "$OUTPUT/throughput.json"
python test.py --post_process "${DATA[@]}" "${BINS[@]}" --result_path "$work_path/result/dumpOutput_device0" \
  --name quickstart --json "$OUTPUT/accuracy.json" "${REPORT[@]}"

say "7 of 7: compare the deployed model with the bundled encoder"
[[ -z "$bundled" ]] ||
  python test.py --compare "$OUTPUT/accuracy.json" "$OUTPUT/bundled.json" --report "$work_path/results/comparison.html"
summary "$OUTPUT/training.json" "$OUTPUT/throughput.json" "$OUTPUT/accuracy.json" "seconds=$((SECONDS - started))"
is_dry && exit
say "done in $((SECONDS - started)) s; report: $work_path/results/quickstart.html"
[[ -z "$bundled" ]] || say "report of the bundled encoder: $work_path/results/bundled.html; comparison: $work_path/results/comparison.html"
next_step "open the report, then use your own data: bash test/predeal.sh --help"
