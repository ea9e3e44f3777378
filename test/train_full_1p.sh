#!/usr/bin/env bash
# Train the full recipe on one device.
#
#   bash test/train_full_1p.sh --data_path=work/CASIA-B-pre
#
# On a machine without a supported device, the script uses the CPU.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
PROCESSES=1
source "$ROOT/test/train_common.sh"
train_full "$@"
