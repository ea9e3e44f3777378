# Find CANN and set its environment. env.sh sources this file.
# shellcheck shell=bash disable=SC2154  # `option` of env.sh declares variables
set -euo pipefail

# use_cann [DIR]: set CANN's environment, like `source set_env.sh`, and print the folder of CANN. If DIR is empty, use the CANN
# whose environment is set, else search the usual folders. An environment that is already set is kept. If no CANN is found,
# only print a message, because the commands that need CANN report the error.
use_cann() {
  local given="${1:-}" home script=""
  home="$(sourced_cann)"
  if [[ -n "$given" ]]; then
    given="$(absolute "$given")"
    script="$(cann_script "$given")"
    [[ -n "$script" ]] || die "--cann_path=$given: not a CANN folder, because it contains no set_env.sh, ascend-toolkit/set_env.sh or cann/set_env.sh" 2
    if [[ -n "$home" && "$(realpath -m -- "$home")/" == "$(realpath -m -- "${script%/*}")/"* ]]; then script=""; fi
  elif [[ -z "$home" ]]; then
    script="$(found_cann)"
    if [[ -z "$script" ]]; then
      say "CANN: no set_env.sh in the usual folders; name another folder with --cann_path=DIR or CANN_PATH" >&2
      return 0
    fi
  fi
  if [[ -z "$script" ]]; then say "CANN: $home (its environment is already set)" >&2; return 0; fi
  say "CANN: sourcing $script" >&2
  take_environment_of "$script"
  [[ -n "${ASCEND_HOME_PATH:-}${ASCEND_TOOLKIT_HOME:-}" ]] ||
    die "$script does not set ASCEND_HOME_PATH, so it does not belong to CANN; name the folder of CANN with --cann_path"
}

# use_cann_for DEVICE: call use_cann if DEVICE is an NPU, or if DEVICE is `auto` and the machine seems to have an NPU.
use_cann_for() {
  case "$1" in
    npu | npu:*) use_cann "$cann_path" ;;
    auto)
      if command -v npu-smi > /dev/null || compgen -G '/dev/davinci[0-9]*' > /dev/null; then use_cann "$cann_path"; fi
      ;;
  esac
}

# Print the folder of the CANN whose environment is set. Its libraries are then in LD_LIBRARY_PATH.
sourced_cann() {
  local home
  for home in "${ASCEND_HOME_PATH:-}" "${ASCEND_TOOLKIT_HOME:-}"; do
    if [[ -n "$home" && ":${LD_LIBRARY_PATH:-}" == *":${home%/}/"* ]]; then echo "$home"; return; fi
  done
}

# cann_script DIR: print the set_env.sh of the CANN in DIR. If DIR is .../ascend-toolkit/latest, it is in the parent of DIR.
cann_script() {
  local folder="${1%/}" script
  if [[ -f "$folder" ]]; then echo "$folder"; return; fi
  [[ -d "$folder" ]] || return 0
  for script in "$folder"/{,ascend-toolkit/,cann/}set_env.sh "${folder%/*}/set_env.sh"; do
    if [[ -f "$script" ]]; then echo "$script"; return; fi
  done
}

# Files in which installers of CANN record the installation folder, in lines such as NAME_Install_Path_Param=FOLDER.
CANN_RECORDS=(/etc/Ascend/ascend_cann_install.info "${HOME:-/root}/Ascend/ascend_cann_install.info")

# Print the first set_env.sh that is found in these folders: the folders in the variables of CANN, the folders that installers
# have recorded, and the documented folders. Of the folders cann-NUMBER, the newest comes first.
found_cann() {
  local root home script homes=("${ASCEND_HOME_PATH:-}" "${ASCEND_TOOLKIT_HOME:-}") numbered recorded
  mapfile -t recorded < <(sed -n 's/^[^#=]*Install_\{0,1\}Path[^=]*=[[:space:]]*\(.*[^[:space:]]\)[[:space:]]*$/\1/p' "${CANN_RECORDS[@]}" 2> /dev/null)
  for root in "${recorded[@]}" /usr/local/Ascend "${HOME:-/root}/Ascend"; do
    root="${root%/}"; homes+=("$root")
    mapfile -t numbered < <(compgen -G "$root/cann-*" | sort -rV)
    homes+=("$root/ascend-toolkit" "$root/cann" "${numbered[@]}" "$root/nnae" "$root/nnrt")
  done
  for home in "${homes[@]}"; do
    script="$(cann_script "$home")"
    if [[ -n "$script" ]]; then echo "$script"; return; fi
  done
}

# take_environment_of SCRIPT: export the variables that SCRIPT exports. A separate shell sources SCRIPT, because scripts of CANN
# read unset variables, and some of these scripts call `set -e` or exit.
take_environment_of() {
  local entries entry
  # shellcheck disable=SC2016  # the other shell expands the variable
  mapfile -d '' -t entries < <(
    CANN_SET_ENV="$1" bash -c 'set +eu; set +o pipefail; source "$CANN_SET_ENV" >&2; env -0' bash < /dev/null
  )
  ((${#entries[@]})) || die "$1 failed; source it in your shell, fix the reported problem, and run this script again"
  for entry in "${entries[@]}"; do
    case "${entry%%=*}" in
      _ | [!A-Za-z_]* | *[!A-Za-z0-9_]* | PWD | OLDPWD | SHLVL | SHELLOPTS | BASHOPTS | UID | EUID | PPID) ;;
      CANN_SET_ENV) ;;
      *) export "${entry?}" ;;
    esac
  done
}
