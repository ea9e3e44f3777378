# What the four training drivers share; they set PROCESSES (how many would be best) and source it.
set -euo pipefail

declare_training_options() {
  option data_path "" "aligned tree or store (none: the config's dataset_path)"
  option dataset "" "CASIA-B, OUMVLP, CASIA-A or Synthetic (none: the config's)"
  option config "$ROOT/config_$([[ $PROCESSES == 1 ]] && echo 1p || echo 8p).py" "configuration"
  option work_path "" "where checkpoints, partitions and results are kept (none: the config's)"
  option device auto "auto, cpu, cuda or npu"
  option iters "$1" "iterations (none: the config's)"
}

# Arguments of train.py from the options, in TRAIN; how many processes, in USED.
prepare_training() {
  TRAIN=(train.py --config "$(absolute "$config")" --device "$device")
  [[ -z "$data_path" ]] || TRAIN+=(--data_path "$(absolute "$data_path")")
  [[ -z "$dataset" ]] || TRAIN+=(--dataset "$dataset")
  [[ -z "$work_path" ]] || TRAIN+=(--work_path "$(absolute "$work_path")")
  [[ -z "$iters" ]] || TRAIN+=(--iters "$iters")
  USED="$(processes_for "$PROCESSES" "$device")"
  if ((USED < PROCESSES)) && [[ "$(basename "$config")" == config_8p.py ]]; then
    say "config_8p.py is made for $PROCESSES processes; for $USED the learning rate that fits its batch is about" \
      "$(awk "BEGIN { print 1e-4 * $USED }"): give -- --lr RATE"
  fi
  ((USED == PROCESSES)) || say "$PROCESSES processes would be best; found devices or cores for $USED, using $USED"
  mkdir -p "$OUTPUT"
}

train_full() {
  declare_training_options ""
  parse "$@"
  prepare_training
  launch "$USED" "${TRAIN[@]}" --json "$OUTPUT/training.json" "${PASSED_ON[@]}"
  summary "$OUTPUT/training.json" "processes=$USED" "config=$config"
}

train_performance() {
  declare_training_options 200
  parse "$@"
  prepare_training
  launch "$USED" "${TRAIN[@]}" --performance --json "$OUTPUT/performance.json" "${PASSED_ON[@]}"
  summary "$OUTPUT/performance.json" "processes=$USED" "config=$config"
  say "throughput is in $OUTPUT/${DRIVER%.sh}.txt"
}
