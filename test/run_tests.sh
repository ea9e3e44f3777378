#!/usr/bin/env bash
# Install the requirements and run all tests.
#
#   bash test/run_tests.sh
#   bash test/run_tests.sh --fast            without slow tests, for example tests that start commands
#   bash test/run_tests.sh -- -k triplet     with options of pytest
#
# By default, there is one test process more than cores, because tests often wait. Each process uses one thread. The tests do
# not write to test/output.
#
# The environment variable GAITSET_REAL_DATA is a folder with real raw silhouettes (casia-a-10). If it is not set, the tests
# that need real silhouettes are skipped.
# shellcheck disable=SC2154  # `option` declares variables
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
option fast False "skip the slow tests"
option setup_only False "only install the requirements"
option processes auto "number of test processes; auto means one process more than cores, or one per core with --fast, but at most eight"
parse "$@"
[[ "$processes" == auto || "$processes" =~ ^[1-9][0-9]*$ ]] || die "--processes=$processes: must be auto or a number above 0" 2
# Make test files absolute that are relative to the current folder of the caller, such as unit/test_docs.py::test_x.
for i in "${!PASSED_ON[@]}"; do
  file="${PASSED_ON[i]%%::*}"
  if [[ "$file" == */* || "$file" == *.py ]] && [[ -e "$(absolute "$file")" ]]; then PASSED_ON[i]="$(absolute "${PASSED_ON[i]}")"; fi
done
install requirements.txt test/requirements.txt
[[ "$setup_only" != True ]] || exit 0
selection=(); waiting=1
[[ "$fast" != True ]] || { selection=(-m "not slow"); waiting=0; } # fast tests do not wait
if [[ "$processes" == auto ]]; then
  processes="$(command "$PYTHON" -c "from model.common.cores import core_count; print(min(core_count() + $waiting, 8))")"
fi
if ((processes > 1)) && ! command "$PYTHON" -c 'import xdist' 2> /dev/null; then
  say "pytest-xdist is not installed for $PYTHON: running one test at a time"
  processes=1
fi
# The tests run hundreds of commands. Without compiled modules on disk, each command would compile all modules again.
unset PYTHONDONTWRITEBYTECODE
if ((processes > 1)); then
  export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # several processes with several threads each would slow each other down
  # Neighboring tests run in the same process, because they share fixtures. An idle process takes over tests of a busy process.
  selection+=(-n "$processes" --dist worksteal)
fi
python -m pytest "${selection[@]}" "${PASSED_ON[@]}"
