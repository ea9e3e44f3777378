#!/usr/bin/env bash
# From nothing to a rank-1 table and a report, on any machine: installs what is needed, makes synthetic walkers, and
# takes them through the whole chain. About ten minutes on two cores without an accelerator.
#
#   bash test/quickstart.sh
#
# Training is far shorter than the recipe for real data, and so are the sequences: this shows that everything works
# and that people are recognised by how they walk, not how well it can be done.
# shellcheck disable=SC2154  # options are variables that `option` names
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
option subjects 36 "synthetic walkers; the first --pid_num train, the others test"
option pid_num 20 "training subjects"
option frames 20 "frames of each sequence"
option iters 160 "training iterations"
option device auto "auto, cpu, cuda or npu"
option seed 0 "of walkers and training"
option work_path "$ROOT/work/quickstart" "where everything it makes is kept"
parse "$@"
work_path="$(absolute "$work_path")"
started=$SECONDS
install requirements.txt
is_dry || mkdir -p "$work_path" "$OUTPUT"
DATA=(--dataset Synthetic --data_path "$work_path/walkers-pre" --pid_num "$pid_num" --work_path "$work_path")

say "1 of 7: $subjects synthetic walkers, ten takes each, seen from eleven views"
python -m model.synthetic --output_path "$work_path/walkers" --subjects "$subjects" --frames "$frames" --seed "$seed"

say "2 of 7: pretreatment"
python pretreatment.py --input_path "$work_path/walkers" --output_path "$work_path/walkers-pre" \
  --log_file "$work_path/pretreatment.log" --json "$OUTPUT/pretreatment.json"

say "3 of 7: training on $pid_num of them, $iters iterations"
python train.py "${DATA[@]}" --device "$device" --seed "$seed" --iters "$iters" --lr 1e-3 \
  --batch_size_p 6 --batch_size_m 4 --frame_num 6 --log_iter 20 --json "$OUTPUT/training.json" "${PASSED_ON[@]}"
checkpoint="<what step 3 wrote>"
is_dry || checkpoint="$(command "$PYTHON" -c 'import json, sys; print(json.load(open(sys.argv[1]))["checkpoint"])' "$OUTPUT/training.json")"

say "4 of 7: export to ONNX, batch 16"
python pth2onnx.py --input_path "$checkpoint" --output_path "$work_path/gaitset_submit_bs16.onnx" \
  --batch_size 16 --frame_num "$frames" --json "$OUTPUT/onnx.json"

say "5 of 7: the deployed model over the subjects it has never seen: bins, ONNX Runtime, accuracy"
BINS=(--bin_path "$work_path/Synthetic-bin" --bin_frames "$frames")
python test.py --pre_process "${DATA[@]}" "${BINS[@]}"
python -m model.runtime --runtime onnxruntime --model "$work_path/gaitset_submit_bs16.onnx" \
  --info "$work_path/Synthetic-bin.info" --output "$work_path/result" --json "$OUTPUT/throughput.json"
python test.py --post_process "${DATA[@]}" "${BINS[@]}" --result_path "$work_path/result/dumpOutput_device0" \
  --name deployed --json "$OUTPUT/deployed.json" > "$(is_dry && echo /dev/stdout || echo "$work_path/deployed.txt")"

say "6 of 7: the same subjects with the checkpoint itself"
python test.py "${DATA[@]}" --device "$device" --checkpoint "$checkpoint" --batch_size 16 \
  --name quickstart --json "$OUTPUT/accuracy.json" --report --throughput "$OUTPUT/throughput.json"

say "7 of 7: the same subjects with the encoder that comes with the project and was trained for longer, on other walkers"
shipped="$(command "$PYTHON" -c 'from model.checkpoints.bundled import shipped_encoder; print(shipped_encoder() or "")')"
if [[ -n "$shipped" ]]; then
  python test.py "${DATA[@]}" --device "$device" --checkpoint "$shipped" --name shipped --json "$OUTPUT/shipped.json" --report
  python test.py --compare "$OUTPUT/accuracy.json" "$OUTPUT/shipped.json" --report "$work_path/results/comparison.html"
else
  say "it has been removed from work/checkpoint/GaitSet: nothing to test"
fi
summary "$OUTPUT/training.json" "$OUTPUT/throughput.json" "$OUTPUT/accuracy.json" "$OUTPUT/deployed.json" \
  "seconds=$((SECONDS - started))"
is_dry && exit
say "the deployed model gave $(sed -n 4p "$work_path/deployed.txt") (identical views excluded)"
say "done in $((SECONDS - started)) s; report: $work_path/results/quickstart.html"
[[ -z "$shipped" ]] || say "of the longer training: $work_path/results/shipped.html; both compared: $work_path/results/comparison.html"
next_step "open that page; then your own data: bash test/predeal.sh --help"
