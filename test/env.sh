# What the drivers in this folder share; each of them sources it first. Not a program of its own.
set -euo pipefail
((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)) || { echo "error: bash 4.4 or later is needed, this is $BASH_VERSION" >&2; exit 1; }

CALLED_FROM="$PWD"
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
DRIVER="$(basename "${BASH_SOURCE[1]:-$0}")"
OUTPUT="$ROOT/test/output"
# Default outputs land in the same place wherever the driver was called from.
cd "$ROOT"

# PYTHON from the environment, else the repository's own environment, else python3.
PYTHON_GIVEN="${PYTHON:-}"
choose_python() {
  if [[ "$PYTHON_GIVEN" == */* ]]; then PYTHON="$(absolute "$PYTHON_GIVEN")"
  elif [[ -n "$PYTHON_GIVEN" ]]; then PYTHON="$PYTHON_GIVEN"
  elif [[ -x "$ROOT/.venv/bin/python" ]]; then PYTHON="$ROOT/.venv/bin/python"
  else PYTHON=python3; fi
}

# A path that the user gave is relative to where the user is.
absolute() { [[ -z "$1" || "$1" == /* ]] && echo "$1" || echo "$CALLED_FROM/$1"; }

choose_python

die() { echo "$DRIVER: error: $1" >&2; exit "${2:-1}"; }
say() { echo "== $*"; }

# option NAME DEFAULT HELP: declares --NAME=VALUE. Its value, in the variable NAME, is the argument's, else that
# of the environment variable NAME in capitals, else DEFAULT.
OPTION_NAMES=()
declare -A OPTION_HELP OPTION_DEFAULT
option() {
  local capitals="${1^^}"
  OPTION_NAMES+=("$1")
  OPTION_HELP[$1]="$3"
  OPTION_DEFAULT[$1]="$2"
  printf -v "$1" '%s' "${!capitals:-$2}"
}

# parse "$@": sets the declared options. What follows a bare -- is passed on, in PASSED_ON. A flag, that is an
# option whose default is False, may be given as --name.
PASSED_ON=()
parse() {
  local argument name
  while (($#)); do
    argument="$1"; shift
    case "$argument" in
      -h | --help) usage; exit 0 ;;
      --) PASSED_ON=("$@"); break ;;
      --*=*) name="${argument%%=*}"; name="${name#--}" ;;
      --*) name="${argument#--}" ;;
      *) die "unexpected argument $argument (options are --name=value; see --help)" 2 ;;
    esac
    name="${name//-/_}"
    [[ -v "OPTION_HELP[$name]" ]] || die "unknown option --$name; known: ${OPTION_NAMES[*]/#/--}" 2
    if [[ "$argument" == *=* ]]; then printf -v "$name" '%s' "${argument#*=}"
    elif [[ "${OPTION_DEFAULT[$name]}" == False ]]; then printf -v "$name" '%s' True
    else die "--$name needs a value: --$name=VALUE" 2; fi
  done
  for name in "${OPTION_NAMES[@]}"; do
    [[ "${OPTION_DEFAULT[$name]}" == False ]] || continue
    case "${!name}" in
      True | true) printf -v "$name" True ;;
      False | false) printf -v "$name" False ;;
      *) die "--$name must be True or False, not ${!name}" 2 ;;
    esac
  done
}

# The comment on top of the driver, then its options.
usage() {
  sed -n '2,/^[^#]/{/^#/{s/^# \{0,1\}//;p}}' "$ROOT/test/$DRIVER"
  echo
  echo "Options (--name=value, or NAME=value in the environment; after -- come options of the Python command):"
  local name
  for name in "${OPTION_NAMES[@]}"; do
    printf '  --%-20s %s (default: %s)\n' "$name" "${OPTION_HELP[$name]}" "${OPTION_DEFAULT[$name]:-none}"
  done
  echo "PYTHON names the interpreter (now: $PYTHON)."
}

# python ARGUMENTS: show the command, run it.
python() {
  echo "+ python $*" >&2
  command "$PYTHON" "$@"
}

# install REQUIREMENTS...: into .venv, once for each state of the files. With PYTHON given, that interpreter is
# taken as it is.
install() {
  if [[ -n "$PYTHON_GIVEN" ]]; then return; fi
  local stamp="$ROOT/.venv/installed-$(cat "$@" | cksum | cut -d' ' -f1)"
  if [[ ! -e "$stamp" ]]; then
    say "installing into .venv (some minutes and some GB the first time)"
    [[ -x "$ROOT/.venv/bin/python" ]] || python3 -m venv "$ROOT/.venv" || die "python3 -m venv failed: install your system's python3-venv"
    local files=() file
    for file in "$@"; do files+=(-r "$file"); done
    "$ROOT/.venv/bin/python" -m pip install --quiet --disable-pip-version-check "${files[@]}" || die "pip install failed"
    touch "$stamp"
  fi
  choose_python
}

# How many processes to start when WANTED would be best: as many as there are devices; on the CPU, cores.
processes_for() {
  local found
  found="$(command "$PYTHON" -c '
import sys
from model.device import processes_possible
from model.errors import run_command
run_command(lambda: print(processes_possible(sys.argv[1])))' "$2")" || exit $?
  echo $((found < $1 ? found : $1))
}

# launch PROCESSES SCRIPT ARGUMENTS: one process alone, several through torchrun on free ports.
launch() {
  local processes="$1"; shift
  if ((processes == 1)); then python "$@"
  else python -m torch.distributed.run --standalone --nproc_per_node "$processes" "$@"; fi
}

# summary [FILE.json ...] KEY=VALUE ...: test/output/<driver>.json and .txt (key=value lines) of all of them.
summary() { command "$PYTHON" -m model.summary "$OUTPUT/${DRIVER%.sh}" "$@"; }
