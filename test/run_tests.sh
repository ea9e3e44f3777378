#!/usr/bin/env bash
# Install the requirements and run all tests.
#
#   bash test/run_tests.sh
#   bash test/run_tests.sh --fast            without slow tests and those that start commands
#   bash test/run_tests.sh -- -k triplet     with options of pytest
#
# The tests run in one process more than there are cores, because some tests wait, each with one thread. They do not write to
# test/output.
#
# GAITSET_REAL_DATA is a folder with real raw silhouettes (casia-a-10). Tests that need them are skipped if it is not set.
# shellcheck disable=SC2154  # `option` declares variables
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
option fast False "skip the slow tests"
option setup_only False "only install the requirements"
option processes auto "number of test processes (auto: one more than cores, with --fast one per core; at most eight)"
parse "$@"
[[ "$processes" == auto || "$processes" =~ ^[1-9][0-9]*$ ]] || die "--processes must be auto or a number, not $processes" 2
# Tests of the caller's current folder, such as unit/test_docs.py::test_x.
for i in "${!PASSED_ON[@]}"; do
  file="${PASSED_ON[i]%%::*}"
  if [[ "$file" == */* || "$file" == *.py ]] && [[ -e "$(absolute "$file")" ]]; then PASSED_ON[i]="$(absolute "${PASSED_ON[i]}")"; fi
done
install requirements.txt test/requirements.txt
[[ "$setup_only" != True ]] || exit 0
selection=(); waiting=1
[[ "$fast" != True ]] || { selection=(-m "not slow"); waiting=0; } # fast tests wait for nothing
if [[ "$processes" == auto ]]; then
  processes="$(command "$PYTHON" -c "from model.common.cores import core_count; print(min(core_count() + $waiting, 8))")"
fi
if ((processes > 1)) && ! command "$PYTHON" -c 'import xdist' 2> /dev/null; then
  say "pytest-xdist is not installed for $PYTHON: running one test at a time"
  processes=1
fi
# Without compiled modules, each of hundreds of commands would compile the program, and each process the tests.
unset PYTHONDONTWRITEBYTECODE
if ((processes > 1)); then
  export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # several processes with several threads each would slow each other down
  # Neighboring tests stay in one process, because they share fixtures. A process without tests takes some of another.
  selection+=(-n "$processes" --dist worksteal)
fi
python -m pytest "${selection[@]}" "${PASSED_ON[@]}"
