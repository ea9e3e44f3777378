"""The actions of `python -m model.identify`. Each prints its result and returns it as JSON values."""

from __future__ import annotations

import csv
import logging
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from model.checkpoints.metadata import checksum
from model.common.errors import UsageError, UserError
from model.common.natural_order import natural_key
from model.config import load_config, overrides_of
from model.data.store import SilhouetteStore
from model.devices.opening import open_device
from model.embeddings.extract import stream
from model.identify.gallery import Encoder, Entry, Gallery, check_encoder, enrol, read_gallery, remove, some_names
from model.identify.matching import Calibration, calibrate, fuse, person_distances
from model.identify.report import write_report
from model.initialization import load_network, open_dataset
from model.report.animation import film_strip

log = logging.getLogger(__name__)

SHOWN = 5  # nearest people per sequence


class Probes(NamedTuple):
    """Sequences of a tree with the encoder. `batches` yields positions [b] and embeddings [b, values]."""

    store: SilhouetteStore
    encoder: Encoder
    batches: Iterator[tuple[np.ndarray, np.ndarray]]

    def embeddings(self) -> np.ndarray:
        return np.concatenate([values for _, values in self.batches])


def open_probes(options: Namespace, default_config: Path) -> Probes:
    """Open the tree and the encoder of the options."""
    config = load_config(options.config or default_config, overrides_of(options))
    device = open_device(options.device, config.visible_devices)
    loaded = load_network(config, options.checkpoint, None, device)
    data = open_dataset(config, "all", cache=bool(options.cache), skip_bad=options.skip_bad, quiet=options.quiet)
    batches = (
        (positions, embeddings.float().cpu().numpy().reshape(len(positions), -1))
        for positions, embeddings in stream(loaded.network, data.store, device, options.batch_size, quiet=options.quiet)
    )
    encoder = Encoder(loaded.checkpoint.name, checksum(loaded.checkpoint) or "", loaded.network.hidden_dim)
    return Probes(data.store, encoder, batches)


def enroll_action(options: Namespace, default_config: Path) -> dict[str, Any]:
    store, encoder, batches = open_probes(options, default_config)
    index = store.index
    names = {track: track for track in index.subjects}
    if options.names:
        names = read_names(options.names, index.subjects)

    def entries() -> Iterator[Entry]:
        for positions, embeddings in batches:
            for position, embedding in zip(positions.tolist(), embeddings, strict=True):
                track, take = str(index.subject[position]), str(index.seq_type[position])
                if track in names:
                    # Two tracks of one person can have the same take and view.
                    take = take if names[track] == track else f"{track}.{take}"
                    labels = names[track], take, str(index.view[position]), int(index.frames[position])
                    yield Entry(*labels, embedding, *film_strip(store.sequence(position)))

    count = enrol(options.gallery_file, encoder, entries())
    gallery = read_gallery(options.gallery_file)
    print(
        f"enrolled {count:,} sequences of {len(set(names.values())):,} people in {options.gallery_file}, which now has "
        f"{len(gallery):,} sequences of {len(gallery.people):,} people"
    )
    return {"enrolled": count, "gallery": _summary(gallery)}


def read_names(path: Path, tracks: list[str]) -> dict[str, str]:
    """Read the names of tracks from a CSV file with the columns track and name. Rows without a name are ignored.

    Raises:
        UserError: the file has no such columns, or names a track that the tree does not have, or names a track twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a table of names ({error}); write it as CSV in UTF-8") from error
    names: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        track, name = ((row.get(column) or "").strip() for column in ("track", "name"))
        if not {"track", "name"} <= row.keys():
            raise UserError(f"{path}: the first line is {','.join(map(str, row))}, expected the columns track,name")
        if not name:
            continue
        if track not in tracks:
            raise UserError(f"{path}, line {number}: no track {track!r} in the tree; its tracks: {some_names(tracks)}")
        if names.setdefault(track, name) != name:
            raise UserError(f"{path}, line {number}: track {track} is {names[track]} and {name}; keep one of them")
    if not names:
        raise UserError(f"{path}: no names; write one line per track after the line track,name")
    return names


def who_action(options: Namespace, default_config: Path) -> dict[str, Any]:
    gallery, calibration = _calibrated(options)
    probes = open_probes(options, default_config)
    check_encoder(gallery, probes.encoder)
    index = probes.store.index
    distance, row = person_distances(probes.embeddings(), gallery, options.best)
    results = []
    for position in range(len(index)):
        order = np.argsort(distance[position], kind="stable")[:SHOWN]
        nearest = [
            {
                "person": str(gallery.people[person]),
                "distance": float(distance[position, person]),
                "probability": calibration.probability(distance[position, person]),
                "row": int(row[position, person]),
            }
            for person in order
        ]
        known = None if calibration.threshold is None else nearest[0]["distance"] < calibration.threshold
        sequence = index.name(position)
        frames = int(index.frames[position])
        results.append({"sequence": sequence, "frames": frames, "known": known, "nearest": nearest})
        _print_result(results[-1])
    if options.report:
        write_report(options.report, gallery, calibration, results, probes.store)
        print(f"report: {options.report}")
    return {
        "gallery": _summary(gallery), "far": options.far, "best": options.best, "threshold": calibration.threshold,
        "sequences": [
            {**result, "nearest": [{k: v for k, v in match.items() if k != "row"} for match in result["nearest"]]}
            for result in results
        ],
    }  # fmt: skip


def _print_result(result: dict[str, Any]) -> None:
    best = result["nearest"][0]
    decision = {True: best["person"], False: "unknown", None: f"nearest is {best['person']}, not decided"}
    print(f"{result['sequence']} ({result['frames']} frames): {decision[result['known']]}")
    width = max(len(match["person"]) for match in result["nearest"])
    for number, match in enumerate(result["nearest"], 1):
        print(
            f"  {number}  {match['person']:{width}}  distance {match['distance']:.2f}{_percent(match['probability'])}"
        )


def _percent(probability: float | None) -> str:
    return "" if probability is None else f"  same person {100 * probability:.1f} %"


def verify_action(options: Namespace, default_config: Path) -> dict[str, Any]:
    gallery, calibration = _calibrated(options)
    probes = embeddings = None
    if options.data_path:
        probes = open_probes(options, default_config)
        check_encoder(gallery, probes.encoder)
        embeddings = probes.embeddings()
    # A track can have the name of a person: the first name prefers the tree, the second the gallery.
    first, second = (
        _find(name, gallery, probes, embeddings, prefer_tree)
        for name, prefer_tree in zip(options.people, (True, False), strict=True)
    )
    from torch import from_numpy

    from model.evaluation.distance import euclidean_distance

    pairs = euclidean_distance(from_numpy(first), from_numpy(second)).numpy().reshape(1, -1)
    distance = float(fuse(pairs, np.zeros(pairs.shape[1], int), 1, options.best).distance[0, 0])
    threshold, probability = calibration.pair_threshold, calibration.probability(distance)
    same = None if threshold is None else distance < threshold
    decision = {True: "the same person", False: "different people", None: "not decided"}[same]
    limit = "" if threshold is None else f", threshold {threshold:.2f} at a false accept rate of {options.far:g}"
    print(f"{' and '.join(options.people)}: {decision} (distance {distance:.2f}{limit}){_percent(probability)}")
    return {"names": options.people, "same": same, "distance": distance, "threshold": threshold,
            "probability": probability, "far": options.far, "best": options.best}  # fmt: skip


def _find(
    name: str, gallery: Gallery, probes: Probes | None, embeddings: np.ndarray | None, prefer_tree: bool
) -> np.ndarray:
    """Return the embeddings of a person of the gallery, or of a track or sequence of the tree."""
    in_tree = np.zeros(0, int)
    if probes is not None:
        index = probes.store.index
        in_tree = np.flatnonzero([f"{index.name(i)}/".startswith(f"{name}/") for i in range(len(index))])
    enrolled = np.flatnonzero(gallery.labels["person"] == name)
    if len(in_tree) and (prefer_tree or not len(enrolled)):
        return np.ascontiguousarray(embeddings[in_tree])
    if len(enrolled):
        return gallery.embeddings_of(enrolled)
    tracks = f"; tracks of the tree: {some_names(probes.store.index.subjects)}" if probes else ""
    raise UsageError(
        f"verify: {name} is neither a person of {gallery.path} nor a track of --data_path; enrolled: "
        f"{some_names(gallery.people)}{tracks}"
    )


def list_action(options: Namespace, _: Path) -> dict[str, Any]:
    gallery = read_gallery(options.gallery_file)
    summary = _summary(gallery)
    print(
        f"{options.gallery_file}: {len(gallery):,} sequences of {len(gallery.people):,} people, {gallery.encoder.name}"
    )
    for person in summary["people"]:
        print(f"{person['name']}: {person['sequences']} sequences, views {', '.join(person['views'])}")
    return summary


def remove_action(options: Namespace, _: Path) -> dict[str, Any]:
    count = remove(options.gallery_file, options.people[0])
    print(f"removed {count:,} sequences of {options.people[0]} from {options.gallery_file}")
    return {"removed": count}


def _calibrated(options: Namespace) -> tuple[Gallery, Calibration]:
    gallery = read_gallery(options.gallery_file)
    if not len(gallery):
        raise UserError(f"{options.gallery_file}: nobody is enrolled; use python -m model.identify enroll")
    calibration = calibrate(gallery, options.far, options.best)
    for note in calibration.notes():
        log.warning("%s", note)
    return gallery, calibration


def _summary(gallery: Gallery) -> dict[str, Any]:
    order = np.argsort(gallery.person_ids, kind="stable")
    ends = np.cumsum(np.bincount(gallery.person_ids, minlength=len(gallery.people)))
    people = [
        {
            "name": name,
            "sequences": len(rows),
            "views": sorted(set(gallery.labels["view"][rows].tolist()), key=natural_key),
        }
        for name, rows in zip(gallery.people.tolist(), np.split(order, ends)[:-1], strict=True)
    ]
    return {"file": str(gallery.path), "encoder": gallery.encoder._asdict(), "people": people}


ACTIONS = {
    "enroll": enroll_action, "who": who_action, "verify": verify_action, "list": list_action, "remove": remove_action,
}  # fmt: skip
