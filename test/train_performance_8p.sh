#!/usr/bin/env bash
# Measure the training throughput on eight devices, with one process per device, in a short run without checkpoints.
#
#   bash test/train_performance_8p.sh --data_path=work/CASIA-B-pre
#
# If the machine has fewer devices, the script reports their number and uses them. Without any device, it uses the CPU.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
PROCESSES=8
source "$ROOT/test/train_common.sh"
train_performance "$@"
