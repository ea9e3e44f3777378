#!/usr/bin/env bash
# Throughput of training on eight devices, one process each: a short run that writes no checkpoint.
#
#   bash test/train_performance_8p.sh --data_path=work/CASIA-B-pre
#
# With fewer devices it says how many it found and uses those; without any it runs on the CPU.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
PROCESSES=8
source "$ROOT/test/train_common.sh"
train_performance "$@"
