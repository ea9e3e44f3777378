#!/usr/bin/env bash
# Sets up and runs all tests.
#
#   bash test/run_tests.sh
#   bash test/run_tests.sh --fast            without those marked slow
#   bash test/run_tests.sh -- -k triplet     options of pytest
#
# GAITSET_REAL_DATA, where it is set, names a folder of real raw silhouettes (casia-a-10); tests that need them
# are skipped without it.
# shellcheck disable=SC2154  # options are variables that `option` names
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
option fast False "leave out the tests marked slow"
option setup_only False "install what the tests need, run none"
parse "$@"
install requirements.txt test/requirements.txt
[[ "$setup_only" == True ]] && exit 0
selection=(); [[ "$fast" == True ]] && selection=(-m "not slow")
python -m pytest "${selection[@]}" "${PASSED_ON[@]}"
