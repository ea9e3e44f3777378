# What the drivers in this folder share; each of them sources it first. Not a program of its own.
# shellcheck shell=bash disable=SC2034,SC2154  # options are variables that `option` names, read by the drivers
set -euo pipefail
((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)) || { echo "error: bash 4.4 or later is needed, this is $BASH_VERSION" >&2; exit 1; }

CALLED_FROM="$PWD"
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
DRIVER="$(basename "${BASH_SOURCE[1]:-$0}")"
# Where drivers leave summaries and logs; GAITSET_OUTPUT names another place, which runs at the same time need each.
OUTPUT="$(realpath -m -- "${GAITSET_OUTPUT:-$ROOT/test/output}")"
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
absolute() {
  if [[ -z "$1" || "$1" == /* ]]; then printf '%s\n' "$1"; else printf '%s\n' "$CALLED_FROM/$1"; fi
}

choose_python

# Installed torch extensions load themselves with torch, and torch_npu without CANN's environment then breaks
# `import torch` even where no NPU is wanted. model/device.py imports it when one is.
export TORCH_DEVICE_BACKEND_AUTOLOAD="${TORCH_DEVICE_BACKEND_AUTOLOAD:-0}"

is_dry() { [[ "${dry_run:-False}" == True ]]; }

# die MESSAGE [STATUS]: one line, whatever a user has put in what it quotes.
die() { printf '%s: error: %s\n' "$DRIVER" "${1//[[:cntrl:]]/?}" >&2; exit "${2:-1}"; }
say() { printf '== %s\n' "$*"; }

# option NAME DEFAULT HELP: declares --NAME=VALUE. Its value, in the variable NAME, is the argument's, else that
# of the environment variable NAME in capitals, else DEFAULT.
OPTION_NAMES=()
declare -A OPTION_HELP OPTION_DEFAULT
option() {
  local capitals="${1^^}"
  [[ -v "OPTION_HELP[$1]" ]] || OPTION_NAMES+=("$1")
  OPTION_HELP[$1]="$3"
  OPTION_DEFAULT[$1]="$2"
  printf -v "$1" '%s' "${!capitals:-$2}"
  if [[ "$1" == device ]]; then option cann_path "" "CANN's folder, for an NPU (none: found)"; fi
}

# parse "$@": sets the declared options. What follows a bare -- is passed on, in PASSED_ON. A flag, that is an
# option whose default is False, may be given as --name.
PASSED_ON=()
parse() {
  local argument name
  option dry_run False "print the commands, run none of them"
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
    # Checked before it becomes a subscript: there some shells run what stands in $(...), and * and @ mean all.
    [[ "$name" =~ ^[a-z0-9_]+$ && -v "OPTION_HELP[$name]" ]] ||
      die "unknown option --$name$(near_option "$name"); known: ${OPTION_NAMES[*]/#/--}" 2
    if [[ "$argument" == *=* ]]; then printf -v "$name" '%s' "${argument#*=}"
    elif [[ "${OPTION_DEFAULT[$name]}" == False ]]; then printf -v "$name" '%s' True
    else die "--$name needs a value: --$name=VALUE" 2; fi
  done
  for name in "${OPTION_NAMES[@]}"; do
    # A line end would be lost, or begin a line of its own, in what is printed and written as key=value.
    [[ "${!name}" != *[[:cntrl:]]* ]] || die "--$name must be one line without control characters, not ${!name}" 2
    [[ "${OPTION_DEFAULT[$name]}" == False ]] || continue
    case "${!name}" in
      True | true) printf -v "$name" True ;;
      False | false) printf -v "$name" False ;;
      *) die "--$name must be True or False, not ${!name}" 2 ;;
    esac
  done
  if [[ -v "OPTION_HELP[device]" ]]; then use_cann_for "$device"; fi
}

# near_option NAME: ", did you mean --OTHER?" where a known option is much like it.
near_option() {
  command "$PYTHON" -c '
import difflib, sys
near = difflib.get_close_matches(sys.argv[1], sys.argv[2:], n=1)
print(f", did you mean --{near[0]}?" if near else "", end="")' "$1" "${OPTION_NAMES[@]}"
}

# The comment on top of the driver, then its options.
usage() {
  sed -n '2,/^[^#]/{/^# shellcheck/d;/^#/{s/^# \{0,1\}//;p}}' "$ROOT/test/$DRIVER"
  echo
  echo "Options (--name=value, or NAME=value in the environment; after -- come options of the Python command):"
  local name
  for name in "${OPTION_NAMES[@]}"; do
    printf '  --%-20s %s (default: %s)\n' "$name" "${OPTION_HELP[$name]}" "${OPTION_DEFAULT[$name]:-none}"
  done
  echo "PYTHON names the interpreter (now: $PYTHON), GAITSET_OUTPUT the folder of summaries and logs (now: $OUTPUT)."
}

# python ARGUMENTS: show the command, run it; with --dry_run only show it, as a shell would take it.
python() {
  if is_dry; then printf '+ python%s\n' "${*:+$(printf ' %q' "$@")}"; return; fi
  printf '+ python%s\n' "${*:+$(printf ' %q' "$@")}" >&2
  command "$PYTHON" "$@"
}

# install REQUIREMENTS...: into .venv, once for each state of the files. With PYTHON given, that interpreter is
# taken as it is.
install() {
  if [[ -n "$PYTHON_GIVEN" ]]; then return; fi
  if is_dry; then echo "+ install $* into .venv, unless it is there"; return; fi
  local stamp
  stamp="$ROOT/.venv/installed-$(cat "$@" | cksum | cut -d' ' -f1)"
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
from model.devices.device import processes_possible
from model.common.errors import run_command
run_command(lambda: print(processes_possible(sys.argv[1])))' "$2")" || exit $?
  echo $((found < $1 ? found : $1))
}

# launch PROCESSES SCRIPT ARGUMENTS: one process alone, several through torchrun, which starts them again from the last
# checkpoint when one is killed; on free ports of the loopback address.
launch() {
  local processes="$1"; shift
  if ((processes == 1)); then python "$@"
  else python -m model.launch --processes "$processes" "$@"; fi
}

# use_cann [DIR]: CANN's environment for all that follows, as `source set_env.sh` gives it; says in one line where it
# comes from. DIR is what the user named; else the place that the environment names, else the usual places. One that
# is sourced already stays as it is. Where there is none, says so and leaves the rest to what needs it.
use_cann() {
  local given="${1:-}" home script=""
  home="$(sourced_cann)"
  if [[ -n "$given" ]]; then
    given="$(absolute "$given")"
    script="$(cann_script "$given")"
    [[ -n "$script" ]] || die "--cann_path=$given: no CANN: no set_env.sh in it, its ascend-toolkit or its cann" 2
    if [[ -n "$home" && "$(realpath -m -- "$home")/" == "$(realpath -m -- "${script%/*}")/"* ]]; then script=""; fi
  elif [[ -z "$home" ]]; then
    script="$(found_cann)"
    if [[ -z "$script" ]]; then
      say "CANN: no set_env.sh in the usual places; --cann_path=DIR (or CANN_PATH) names another" >&2
      return 0
    fi
  fi
  if [[ -z "$script" ]]; then say "CANN: $home, its environment is set already" >&2; return 0; fi
  say "CANN: sourcing $script" >&2
  take_environment_of "$script"
  [[ -n "${ASCEND_HOME_PATH:-}${ASCEND_TOOLKIT_HOME:-}" ]] ||
    die "$script sets no ASCEND_HOME_PATH, so it is not CANN's; name CANN's folder with --cann_path"
}

# use_cann_for DEVICE: the same where an NPU is asked for, or is there for `auto` to find.
use_cann_for() {
  case "$1" in
    npu | npu:*) use_cann "$cann_path" ;;
    auto)
      if command -v npu-smi > /dev/null || compgen -G '/dev/davinci[0-9]*' > /dev/null; then use_cann "$cann_path"; fi
      ;;
  esac
}

# The CANN whose environment is set: its libraries are among those that are looked for.
sourced_cann() {
  local home
  for home in "${ASCEND_HOME_PATH:-}" "${ASCEND_TOOLKIT_HOME:-}"; do
    if [[ -n "$home" && ":${LD_LIBRARY_PATH:-}" == *":${home%/}/"* ]]; then echo "$home"; return; fi
  done
}

# cann_script DIR: the set_env.sh of the CANN in or right around DIR: that of .../ascend-toolkit/latest lies one up.
cann_script() {
  local folder="${1%/}" script
  if [[ -f "$folder" ]]; then echo "$folder"; return; fi
  [[ -d "$folder" ]] || return 0
  for script in "$folder"/{,ascend-toolkit/,cann/}set_env.sh "${folder%/*}/set_env.sh"; do
    if [[ -f "$script" ]]; then echo "$script"; return; fi
  done
}

# The first set_env.sh of the documented places; of CANN's numbered folders the newest.
found_cann() {
  local root home script homes=("${ASCEND_HOME_PATH:-}" "${ASCEND_TOOLKIT_HOME:-}") numbered
  for root in /usr/local/Ascend "${HOME:-/root}/Ascend"; do
    mapfile -t numbered < <(compgen -G "$root/cann-*" | sort -rV)
    homes+=("$root/ascend-toolkit" "$root/cann" "${numbered[@]}" "$root/nnae" "$root/nnrt")
  done
  for home in "${homes[@]}"; do
    script="$(cann_script "$home")"
    if [[ -n "$script" ]]; then echo "$script"; return; fi
  done
}

# take_environment_of SCRIPT: what a shell exports that has sourced it. It is a shell of its own, because such scripts
# read variables that may be unset, and some `set -e` and end the shell that sources them.
take_environment_of() {
  local entries entry
  # shellcheck disable=SC2016  # that shell is to expand it
  mapfile -d '' -t entries < <(
    CANN_SET_ENV="$1" bash -c 'set +eu; set +o pipefail; source "$CANN_SET_ENV" >&2; env -0' bash < /dev/null
  )
  ((${#entries[@]})) || die "$1 ended early: source it yourself, mend what it says, and run this again"
  for entry in "${entries[@]}"; do
    case "${entry%%=*}" in
      _ | [!A-Za-z_]* | *[!A-Za-z0-9_]* | PWD | OLDPWD | SHLVL | SHELLOPTS | BASHOPTS | UID | EUID | PPID) ;;
      CANN_SET_ENV) ;;
      *) export "${entry?}" ;;
    esac
  done
}

# summary [FILE.json ...] KEY=VALUE ...: test/output/<driver>.json and .txt (key=value lines) of all of them.
summary() {
  if is_dry; then say "dry run: nothing was run or written"; return; fi
  command "$PYTHON" -m model.commands.summary "$OUTPUT/${DRIVER%.sh}" "$@"
  say "summary: $OUTPUT/${DRIVER%.sh}.json, and as key=value lines .txt"
}

# next_step COMMAND: what to run after this driver.
next_step() { is_dry || say "next: $*"; }
