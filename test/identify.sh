#!/usr/bin/env bash
# Identify the people in a video by their gait, in these steps: silhouettes, alignment, gallery, identification and report.
#
#   bash test/identify.sh --gallery_video=gallery.mp4 --probe_video=probe.mp4
#   bash test/identify.sh --probe_video=other.mp4                    uses the gallery of an earlier run
#   bash test/identify.sh                                            makes videos of synthetic walkers first
#
# Film with a fixed camera. Enrol and identify only people who agreed to it.
# shellcheck disable=SC2154  # `option` declares variables
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
option gallery_video "" "video of the people to enrol (empty: use the existing gallery, or synthetic walkers if both videos are empty)"
option probe_video "" "video of the people to identify (empty: only enrol, or use synthetic walkers if both videos are empty)"
option names "" "CSV file with the columns track and name; other tracks of the gallery video are not enrolled (empty: enrol all tracks under their own names)"
option gallery "" "Parquet file of the enrolled people (empty: people.parquet in the work_path)"
option checkpoint "" "encoder (empty: the newest checkpoint in the work_path, else the bundled encoder)"
option far 0.05 "highest accepted share of unknown people who are identified as an enrolled person"
option min_frames 25 "minimum number of frames of a sequence"
option device auto "device: auto, cpu, cuda or npu"
option work_path "$ROOT/work/identify" "folder for silhouettes, gallery and report"
parse "$@"
for path in gallery_video probe_video names gallery checkpoint work_path; do absolute_in "$path"; done
gallery="${gallery:-$work_path/people.parquet}"
for path in gallery_video probe_video names checkpoint; do [[ -z "${!path}" ]] || must_exist "--$path" "${!path}"; done
[[ -z "$probe_video" || -n "$gallery_video" ]] || must_exist --gallery "$gallery"
IDENTIFY=(--gallery "$gallery" --work_path "$work_path" --device "$device" ${checkpoint:+--checkpoint "$checkpoint"})
is_dry || mkdir -p "$OUTPUT" "$work_path"

if [[ -z "$gallery_video$probe_video" ]]; then
  say "no video is given: making two videos of three synthetic walkers"
  gallery_video="$work_path/walkers-1.mp4" probe_video="$work_path/walkers-2.mp4"
  python -m model.synthetic --video "$gallery_video" --frames 40 --takes nm-01
  python -m model.synthetic --video "$probe_video" --frames 40 --takes nm-02
fi

# tree_of KIND VIDEO: print the path of the raw tree of a video, such as <work_path>/gallery-people for people.mp4.
tree_of() { local name="${2##*/}"; printf '%s\n' "$work_path/$1-${name%.*}"; }

# align KIND VIDEO: write the silhouettes of a video to a raw tree, and align this tree.
align() {
  local tree
  tree="$(tree_of "$1" "$2")"
  say "silhouettes of the $1 video"
  python -m model.silhouettes --video "$2" --output "$tree" --min_frames "$min_frames" --preview "$tree.mp4"
  python pretreatment.py --input_path "$tree" --output_path "$tree-pre" --log_file "$tree.log"
}

[[ -z "$gallery_video" ]] || align gallery "$gallery_video"
[[ -z "$probe_video" ]] || align probe "$probe_video"
RESULTS=()
if [[ -n "$gallery_video" ]]; then
  say "enrol the people of the gallery video"
  python -m model.identify enroll "${IDENTIFY[@]}" --data_path "$(tree_of gallery "$gallery_video")-pre" \
    ${names:+--names "$names"} --json "$OUTPUT/enrolled.json"
  RESULTS+=("$OUTPUT/enrolled.json")
fi
if [[ -n "$probe_video" ]]; then
  say "identify the people of the probe video"
  python -m model.identify who "${IDENTIFY[@]}" --data_path "$(tree_of probe "$probe_video")-pre" --far "$far" \
    --report "$work_path/who.html" --json "$OUTPUT/who.json" "${PASSED_ON[@]}"
  RESULTS+=("$OUTPUT/who.json")
fi
summary "${RESULTS[@]}" "people=$gallery"
next_step "open $work_path/who.html; forget a person with python -m model.identify remove NAME --gallery $(quoted "$gallery")"
