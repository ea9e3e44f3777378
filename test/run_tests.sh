#!/usr/bin/env bash
# Sets up and runs all tests.
#
#   bash test/run_tests.sh
#   bash test/run_tests.sh --fast            without those marked slow
#   bash test/run_tests.sh -- -k triplet     options of pytest
#
# They run in as many processes as there are cores, each with one thread, and leave test/output alone.
#
# GAITSET_REAL_DATA, where it is set, names a folder of real raw silhouettes (casia-a-10); tests that need them
# are skipped without it.
# shellcheck disable=SC2154  # options are variables that `option` names
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
option fast False "leave out the tests marked slow"
option setup_only False "install what the tests need, run none"
option processes auto "that run tests at the same time (auto: one for each core, eight at most)"
parse "$@"
[[ "$processes" == auto || "$processes" =~ ^[1-9][0-9]*$ ]] || die "--processes must be auto or a number, not $processes" 2
install requirements.txt test/requirements.txt
[[ "$setup_only" != True ]] || exit 0
selection=(); [[ "$fast" == True ]] && selection=(-m "not slow")
if [[ "$processes" == auto ]]; then
  processes="$(command "$PYTHON" -c 'from model.common.cores import core_count; print(min(core_count(), 8))')"
fi
if ((processes > 1)) && ! command "$PYTHON" -c 'import xdist' 2> /dev/null; then
  say "pytest-xdist is not installed for $PYTHON: one test after the other"
  processes=1
fi
if ((processes > 1)); then
  export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # several processes of several threads each would be in each other's way
  # One that has no tests left takes some of another's: first neighbours stay together, for they share fixtures.
  selection+=(-n "$processes" --dist worksteal)
fi
python -m pytest "${selection[@]}" "${PASSED_ON[@]}"
