#!/usr/bin/env bash
# Train the full recipe on eight devices, with one process per device.
#
#   bash test/train_full_8p.sh --data_path=work/CASIA-B-pre
#
# With fewer devices, the script reports and uses those it found. Without any, it runs on the CPU.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
PROCESSES=8
source "$ROOT/test/train_common.sh"
train_full "$@"
