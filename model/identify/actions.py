"""Run the actions of `python -m model.identify`. Each action prints a result and returns it as JSON values."""

import csv
import logging
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import from_numpy

from model.checkpoints.metadata import checksum
from model.common.errors import UsageError, UserError, counted, some_names
from model.common.natural_order import natural_key
from model.data.store import SilhouetteStore
from model.evaluation.distance import euclidean_distance
from model.identify.gallery import Encoder, Entry, Gallery, check_encoder, enrol, read_gallery, remove
from model.identify.matching import Calibration, Distances, calibrate, fuse
from model.initialization import Embedder, open_embedder
from model.report.animation import film_strip
from model.report.identification import MATCHES, MAX_CARDS, write_identification

log = logging.getLogger(__name__)

SHOWN = 5  # number of nearest people that are printed per sequence


def _open(options: Namespace, gallery: Gallery | None = None) -> tuple[Embedder, Encoder]:
    """Open the tree and the encoder of the options. Raises UserError if `gallery` belongs to another encoder."""
    opened = open_embedder(options)
    checkpoint = opened.loaded.checkpoint
    encoder = Encoder(checkpoint.name, checksum(checkpoint) or "", opened.loaded.network.hidden_dim)
    if gallery is not None:
        check_encoder(gallery, encoder)
    return opened, encoder


def _embed(options: Namespace, gallery: Gallery) -> tuple[SilhouetteStore, np.ndarray]:
    """Return the sequences of the tree and their embeddings [n, values]."""
    opened, _ = _open(options, gallery)
    return opened.store, np.concatenate([values.reshape(len(values), -1) for _, values in opened.batches])


def enroll_action(options: Namespace) -> dict[str, Any]:
    opened, encoder = _open(options)
    index = opened.store.index
    names = read_names(options.names, index.subjects) if options.names else {name: name for name in index.subjects}

    def entries() -> Iterator[Entry]:
        for positions, embeddings in opened.batches:
            for position, embedding in zip(positions.tolist(), embeddings, strict=True):
                track, take = str(index.subject[position]), str(index.seq_type[position])
                if track in names:
                    # Two tracks of one person can have the same take and view, so the new take contains the track.
                    take = take if names[track] == track else f"{track}.{take}"
                    labels = names[track], take, str(index.view[position]), int(index.frames[position])
                    yield Entry(*labels, embedding, *film_strip(opened.store.sequence(position)))

    count = enrol(options.gallery_file, encoder, entries())
    gallery = read_gallery(options.gallery_file)
    enrolled, now = _amount(count, len(set(names.values()))), _amount(len(gallery), len(gallery.people))
    print(f"enrolled {enrolled} in {options.gallery_file}, which now has {now}")
    return {"enrolled": count, "gallery": _summary(gallery)}


def _amount(sequences: int, people: int) -> str:
    return f"{counted(sequences, 'sequence')} of {counted(people, 'person', 'people')}"


def read_names(path: Path, tracks: Sequence[str]) -> dict[str, str]:
    """Read the names of tracks from a CSV file with the columns track and name. Rows without a name are ignored.

    Raises:
        UserError: the file does not have these columns, a track is not in the tree, or a track has two names.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a table of names ({error}); save it as CSV in UTF-8") from error
    names: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        if not {"track", "name"} <= row.keys():
            raise UserError(f"{path}: the first line is {','.join(map(str, row))}; write the columns track,name there")
        track, name = ((row[column] or "").strip() for column in ("track", "name"))
        if name and track not in tracks:
            raise UserError(f"{path}, line {number}: the tree has no track {track!r}, only {some_names(tracks)}; "
                            "correct the track")  # fmt: skip
        if name and names.setdefault(track, name) != name:
            raise UserError(f"{path}, line {number}: track {track} has two names, {names[track]} and {name}; keep one "
                            "of them")  # fmt: skip
    if not names:
        raise UserError(f"{path}: no names; write one line per track after the line track,name")
    return names


def who_action(options: Namespace) -> dict[str, Any]:
    gallery = _people(options)
    store, embeddings = _embed(options, gallery)
    calibration, distances = _calibrated(options, gallery, embeddings)
    results, rows = [], []
    for position, found in enumerate(distances):
        order = np.argsort(found.distance, kind="stable")[:SHOWN]
        nearest = [
            {"person": person, "distance": distance, "probability": calibration.probability(distance)}
            for person, distance in zip(gallery.people[order].tolist(), found.distance[order].tolist(), strict=True)
        ]
        rows.append(found.row[order[:MATCHES]].tolist())
        known = None if calibration.threshold is None else nearest[0]["distance"] < calibration.threshold
        name, frames = store.index.name(position), int(store.index.frames[position])
        results.append({"sequence": name, "frames": frames, "known": known, "nearest": nearest})
        _print_result(**results[-1])
    if options.report:
        rows = rows[:MAX_CARDS]
        shown = gallery.film_strips(sorted({row for near in rows for row in near}))
        matches = [[shown[row] for row in near] for near in rows]
        probes = [(store.index.name(i), *film_strip(store.sequence(i))) for i in range(len(rows))]
        write_identification(options.report, results, probes, matches, calibration, len(gallery))
        print(f"report: {options.report}")
    return {"gallery": _summary(gallery), "far": options.far, "best": options.best, "threshold": calibration.threshold,
            "sequences": results}  # fmt: skip


def _print_result(sequence: str, frames: int, known: bool | None, nearest: list[dict[str, Any]]) -> None:
    best = nearest[0]["person"]
    decision = {True: best, False: "unknown", None: f"nearest is {best}, not decided"}
    print(f"{sequence} ({counted(frames, 'frame')}): {decision[known]}")
    width = max(len(match["person"]) for match in nearest)
    for number, match in enumerate(nearest, 1):
        percent = _percent(match["probability"])
        print(f"  {number}  {match['person']:{width}}  distance {match['distance']:.2f}{percent}")


def _percent(probability: float | None) -> str:
    return "" if probability is None else f"  same person {100 * probability:.1f} %"


def verify_action(options: Namespace) -> dict[str, Any]:
    gallery = _people(options)
    calibration, _ = _calibrated(options, gallery)
    sequences, found = [], []
    if options.data_path:
        store, embeddings = _embed(options, gallery)
        sequences = [store.index.name(position) for position in range(len(embeddings))]
    # A track and a person can have the same name. In this case, the first NAME is the track, the second the person.
    for name, prefer_tree in zip(options.people, (True, False), strict=True):
        in_tree = [i for i, sequence in enumerate(sequences) if f"{sequence}/".startswith(f"{name}/")]
        enrolled = np.flatnonzero(gallery.labels["person"] == name)
        if not in_tree and not len(enrolled):
            raise UsageError(f"verify: {name} is neither a person of {gallery.path} nor a track of --data_path; "
                             f"enrolled: {some_names(gallery.people)}; tracks: {some_names(sequences)}")  # fmt: skip
        use_tree = in_tree and (prefer_tree or not len(enrolled))
        found.append(from_numpy(embeddings[in_tree] if use_tree else gallery.embeddings_of(enrolled)))
    pairs = euclidean_distance(*found).numpy().ravel()
    distance = float(fuse(pairs, np.zeros(len(pairs), int), 1, options.best).distance[0])
    threshold, probability = calibration.pair_threshold, calibration.probability(distance)
    same = None if threshold is None else distance < threshold
    decision = {True: "the same person", False: "different people", None: "not decided"}[same]
    limit = "" if threshold is None else f", threshold {threshold:.2f} at a false accept rate of {options.far:g}"
    print(f"{' and '.join(options.people)}: {decision} (distance {distance:.2f}{limit}){_percent(probability)}")
    return {"names": options.people, "same": same, "distance": distance, "threshold": threshold,
            "probability": probability, "far": options.far, "best": options.best}  # fmt: skip


def list_action(options: Namespace) -> dict[str, Any]:
    gallery = read_gallery(options.gallery_file)
    summary = _summary(gallery)
    people = summary["people"]
    print(f"{options.gallery_file}: {_amount(len(gallery), len(people))}, {gallery.encoder.name}")
    for person in people:
        print(f"{person['name']}: {counted(person['sequences'], 'sequence')}, views {', '.join(person['views'])}")
    return summary


def remove_action(options: Namespace) -> dict[str, Any]:
    count = remove(options.gallery_file, options.people[0])
    print(f"removed {counted(count, 'sequence')} of {options.people[0]} from {options.gallery_file}")
    return {"removed": count}


def _people(options: Namespace) -> Gallery:
    """Read the gallery. Raises UserError if nobody is enrolled."""
    gallery = read_gallery(options.gallery_file)
    if not len(gallery):
        raise UserError(f"{options.gallery_file}: nobody is enrolled; use python -m model.identify enroll")
    return gallery


def _calibrated(
    options: Namespace, gallery: Gallery, probes: np.ndarray | None = None
) -> tuple[Calibration, Iterator[Distances]]:
    calibration, distances = calibrate(gallery, options.far, options.best, probes)
    for note in calibration.notes():
        log.warning("%s", note)
    return calibration, distances


def _summary(gallery: Gallery) -> dict[str, Any]:
    views: dict[str, list[str]] = {name: [] for name in gallery.people.tolist()}
    for name, view in zip(gallery.labels["person"].tolist(), gallery.labels["view"].tolist(), strict=True):
        views[name].append(view)
    people = [{"name": n, "sequences": len(v), "views": sorted(set(v), key=natural_key)} for n, v in views.items()]
    return {"file": str(gallery.path), "encoder": gallery.encoder._asdict(), "people": people}


ACTIONS = dict(enroll=enroll_action, who=who_action, verify=verify_action, list=list_action, remove=remove_action)
