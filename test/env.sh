# Functions for the shell scripts in this folder. Each script sources this file first.
# shellcheck shell=bash disable=SC2034,SC2154  # `option` declares variables that the scripts read
set -euo pipefail
((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)) || { echo "error: this is bash $BASH_VERSION, expected 4.4 or newer; install a newer bash" >&2; exit 1; }

CALLED_FROM="$PWD"
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
DRIVER="$(basename "${BASH_SOURCE[1]:-$0}")"
# Folder for summaries and logs. Scripts that run at the same time need different folders in GAITSET_OUTPUT.
OUTPUT="$(realpath -m -- "${GAITSET_OUTPUT:-$ROOT/test/output}")"
# Default output paths do not depend on the current folder of the caller.
cd "$ROOT"

# Set PYTHON to the interpreter in the environment variable PYTHON, else to the interpreter of .venv, else to python3.
PYTHON_GIVEN="${PYTHON:-}"
choose_python() {
  if [[ "$PYTHON_GIVEN" == */* ]]; then PYTHON="$(absolute "$PYTHON_GIVEN")"
  elif [[ -n "$PYTHON_GIVEN" ]]; then PYTHON="$PYTHON_GIVEN"
  elif [[ -x "$ROOT/.venv/bin/python" ]]; then PYTHON="$ROOT/.venv/bin/python"
  else PYTHON=python3; fi
}

# absolute PATH: print a path of the user as an absolute path. It is relative to the current folder of the caller.
absolute() {
  if [[ -z "$1" || "$1" == /* ]]; then printf '%s\n' "$1"; else printf '%s\n' "$CALLED_FROM/$1"; fi
}

# absolute_in VARIABLE: make the path in a variable absolute.
absolute_in() { [[ -z "${!1}" || "${!1}" == /* ]] || printf -v "$1" '%s' "$CALLED_FROM/${!1}"; }

# must_exist OPTION PATH: exit if PATH, which the command will read, does not exist.
must_exist() { is_dry || [[ -e "$2" ]] || die "$1 $2: no such file or folder; correct the path (relative paths start at the current folder)" 2; }

choose_python
source "$ROOT/test/cann.sh"

# By default, `import torch` also imports installed extensions. The extension torch_npu fails if CANN's environment is not set,
# even if the command needs no NPU. Therefore this is disabled, and model/devices/extension.py imports torch_npu when needed.
export TORCH_DEVICE_BACKEND_AUTOLOAD="${TORCH_DEVICE_BACKEND_AUTOLOAD:-0}"

is_dry() { [[ "${dry_run:-False}" == True ]]; }

# die MESSAGE [STATUS]: print one error line, without control characters, and exit.
die() { printf '%s: error: %s\n' "$DRIVER" "${1//[[:cntrl:]]/?}" >&2; exit "${2:-1}"; }
say() { printf '== %s\n' "$*"; }

# option NAME DEFAULT HELP: declare the option --NAME=VALUE. The variable NAME is set to VALUE, else to the environment variable
# of this name in capitals, else to DEFAULT.
OPTION_NAMES=()
declare -A OPTION_HELP OPTION_DEFAULT
option() {
  local capitals="${1^^}"
  [[ -v "OPTION_HELP[$1]" ]] || OPTION_NAMES+=("$1")
  OPTION_HELP[$1]="$3"
  OPTION_DEFAULT[$1]="$2"
  printf -v "$1" '%s' "${!capitals:-$2}"
  if [[ "$1" == device ]]; then option cann_path "" "folder of CANN for an NPU (empty: search the usual folders)"; fi
}

# parse "$@": set the variables of the declared options. Arguments after -- are stored in PASSED_ON. If the default of an option
# is False, --name is the same as --name=True.
PASSED_ON=()
parse() {
  local argument name
  option dry_run False "print the commands without running them"
  while (($#)); do
    argument="$1"; shift
    case "$argument" in
      -h | --help) usage; exit 0 ;;
      --) PASSED_ON=("$@"); break ;;
      --*=*) name="${argument%%=*}"; name="${name#--}" ;;
      --*) name="${argument#--}" ;;
      *) die "unexpected argument $argument: options have the form --name=value; see --help" 2 ;;
    esac
    name="${name//-/_}"
    # Check the name before it is used as a subscript: some shells execute $(...) there, and * and @ select all elements.
    [[ "$name" =~ ^[a-z0-9_]+$ && -v "OPTION_HELP[$name]" ]] ||
      die "unknown option --$name$(near_option "$name"); known: ${OPTION_NAMES[*]/#/--}" 2
    if [[ "$argument" == *=* ]]; then printf -v "$name" '%s' "${argument#*=}"
    elif [[ "${OPTION_DEFAULT[$name]}" == False ]]; then printf -v "$name" '%s' True
    else die "--$name: needs a value; give --$name=VALUE" 2; fi
  done
  for name in "${OPTION_NAMES[@]}"; do
    # A line end would break the key=value lines of the summary.
    [[ "${!name}" != *[[:cntrl:]]* ]] || die "--$name: must be one line without control characters, found ${!name}" 2
    [[ "${OPTION_DEFAULT[$name]}" == False ]] || continue
    case "${!name,,}" in
      true) printf -v "$name" True ;;
      false) printf -v "$name" False ;;
      *) die "--$name: must be True or False, found ${!name}" 2 ;;
    esac
  done
  passed_paths
  if [[ -v "OPTION_HELP[device]" ]]; then use_cann_for "$device"; fi
}

# The options of the Python commands whose values are paths. The paths of READ_PATHS must exist. The paths of OTHER_PATHS are
# written, or only begin the names of files.
READ_PATHS=" --config --data_path --partition --train_log --throughput --compare "
OTHER_PATHS=" --work_path --checkpoint --input_path --output_path --bin_path --result_path --calibration_bins --json --report --zoo_path "

# Make the paths among the arguments after -- absolute.
passed_paths() {
  local i name="" path
  for i in "${!PASSED_ON[@]}"; do
    path="${PASSED_ON[i]}"
    case "$path" in
      --*=*) name="${path%%=*}" path="${path#*=}" ;;
      -*) name="$path"; continue ;;
    esac
    [[ "$READ_PATHS$OTHER_PATHS" == *" $name "* && "$name $path" != "--partition all" ]] || continue
    absolute_in path
    if [[ "$READ_PATHS" == *" $name "* ]]; then must_exist "$name" "$path"; fi
    if [[ "${PASSED_ON[i]}" == --*=* ]]; then PASSED_ON[i]="$name=$path"; name=""; else PASSED_ON[i]="$path"; fi
  done
}

# check_batch_sizes LIST: exit if LIST is not a list of numbers such as 1,16, or if LIST contains a number twice.
check_batch_sizes() {
  local batch seen=","
  [[ ",$1" =~ ^(,[1-9][0-9]*)+$ ]] || die "--batch_sizes=$1: must be numbers such as 1,16" 2
  for batch in ${1//,/ }; do
    [[ "$seen" != *",$batch,"* ]] || die "--batch_sizes=$1: $batch is given twice" 2
    seen+="$batch,"
  done
}

# model_stem FOLDER BATCH_SIZE: print the path of a model without its suffix, such as FOLDER/gaitset_submit_bs16.
model_stem() { printf '%s\n' "$1/gaitset_submit$([[ "$2" == 1 ]] || echo "_bs$2")"; }

# near_option NAME: print ", did you mean --OTHER?" if a known option is similar.
near_option() {
  command "$PYTHON" -c '
import difflib, sys
near = difflib.get_close_matches(sys.argv[1], sys.argv[2:], n=1)
print(f", did you mean --{near[0]}?" if near else "", end="")' "$1" "${OPTION_NAMES[@]}"
}

# Print the help of the script: the comment at the top of the script and the declared options.
usage() {
  sed -n '2,/^[^#]/{/^# shellcheck/d;/^#/{s/^# \{0,1\}//;p}}' "$ROOT/test/$DRIVER"
  echo
  echo "Options (--name=value, or NAME=value in the environment; arguments after -- go to the Python command):"
  local name
  for name in "${OPTION_NAMES[@]}"; do
    # If the default is empty, HELP itself describes the default as "(empty: ...)".
    printf '  --%-20s %s%s\n' "$name" "${OPTION_HELP[$name]}" "${OPTION_DEFAULT[$name]:+ (default: ${OPTION_DEFAULT[$name]})}"
  done
  echo "Environment: PYTHON is the Python interpreter ($PYTHON), GAITSET_OUTPUT the folder for summaries and logs ($OUTPUT)."
}

# python ARGUMENTS: print the command, and run it unless --dry_run is given.
python() {
  if is_dry; then printf '+ python%s\n' "${*:+$(printf ' %q' "$@")}"; return; fi
  printf '+ python%s\n' "${*:+$(printf ' %q' "$@")}" >&2
  command "$PYTHON" "$@"
}

# install FILE...: install the packages of requirements files into .venv, with uv if uv is installed, else with pip. Do nothing
# if the same content of the files was installed before, or if the user has set PYTHON.
install() {
  if [[ -n "$PYTHON_GIVEN" ]]; then return; fi
  if is_dry; then echo "+ install $* into .venv if necessary"; return; fi
  local stamp
  stamp="$ROOT/.venv/installed-$(cat "$@" | cksum | cut -d' ' -f1)"
  if [[ ! -e "$stamp" ]]; then
    say "installing packages into .venv (several minutes and GB the first time)"
    [[ -x "$ROOT/.venv/bin/python" ]] || python3 -m venv "$ROOT/.venv" || die "python3 -m venv failed: see the message above; install the package python3-venv of your system"
    local files=() file
    for file in "$@"; do files+=(-r "$file"); done
    if command -v uv > /dev/null; then uv pip install --quiet --python "$ROOT/.venv/bin/python" "${files[@]}" || die "uv pip install failed: see the message above; correct the problem and run this script again"
    else "$ROOT/.venv/bin/python" -m pip install --quiet --disable-pip-version-check "${files[@]}" || die "pip install failed: see the message above; correct the problem and run this script again"; fi
    touch "$stamp"
  fi
  choose_python
}

# launch PROCESSES SCRIPT ARGUMENTS: run a script in one or several processes. Several processes communicate through the
# loopback address. If one of them is killed, all are restarted from the newest checkpoint.
launch() {
  local processes="$1"; shift
  if ((processes == 1)); then python "$@"
  else python -m model.launch --processes "$processes" "$@"; fi
}

# summary [FILE.json ...] KEY=VALUE ...: write the content of the files and the values to test/output/<script>.json, and as
# key=value lines to test/output/<script>.txt.
summary() {
  if is_dry; then say "dry run: nothing was run or written"; return; fi
  command "$PYTHON" -m model.commands.summary "$OUTPUT/${DRIVER%.sh}" "$@"
  say "summary: $OUTPUT/${DRIVER%.sh}.json (as key=value lines: .txt)"
}

# quoted TEXT: print TEXT in a form that a shell reads as one word.
quoted() { printf '%q\n' "$1"; }

# next_step COMMAND: print the next command to run.
next_step() { is_dry || say "next: $*"; }
