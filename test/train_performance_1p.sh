#!/usr/bin/env bash
# Throughput of training on one device: a short run that writes no checkpoint.
#
#   bash test/train_performance_1p.sh --data_path=work/CASIA-B-pre
#
# With fewer devices it says how many it found and uses those; without any it runs on the CPU.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
PROCESSES=1
source "$ROOT/test/train_common.sh"
train_performance "$@"
