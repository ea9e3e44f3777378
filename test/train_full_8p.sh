#!/usr/bin/env bash
# The full recipe on eight devices, one process each.
#
#   bash test/train_full_8p.sh --data_path=work/CASIA-B-pre
#
# With fewer devices it says how many it found and uses those; without any it runs on the CPU.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
PROCESSES=8
source "$ROOT/test/train_common.sh"
train_full "$@"
