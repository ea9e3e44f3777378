#!/usr/bin/env bash
# Measure the training throughput on one device in a short run without checkpoints.
#
#   bash test/train_performance_1p.sh --data_path=work/CASIA-B-pre
#
# On a machine without a supported device, the script uses the CPU.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
PROCESSES=1
source "$ROOT/test/train_common.sh"
train_performance "$@"
