"""Define the evaluation protocols of data sets and of users, and split sequences into gallery and probes."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np

from model.common.errors import UsageError, UserError, counted, some_names
from model.common.files import is_plain_name
from model.common.natural_order import natural_key


class PublishedRow(NamedTuple):
    """Published rank-1 in percent per condition. A mapping is None if the source does not report these figures.

    `per_view` holds rank-1 per condition and probe view, excluding identical views, as printed in `source`.
    """

    label: str
    including: Mapping[str, float] | None
    excluding: Mapping[str, float] | None
    per_view: Mapping[str, Mapping[str, float]] | None = None
    source: str = ""


@dataclass(frozen=True)
class Protocol:
    """The takes of one data set that are gallery and probes.

    `gallery` and the values of `probes` are seq_types or patterns of seq_types, such as `nm-*`. The keys of `probes`
    are the conditions in print order.
    """

    name: str
    gallery: tuple[str, ...]
    probes: Mapping[str, tuple[str, ...]]
    published: tuple[PublishedRow, ...] = ()


@dataclass(frozen=True, eq=False)
class Plan:
    """The embeddings that are probes and the embeddings that are gallery. `gallery_rows` are sorted by view."""

    conditions: tuple[str, ...]
    views: tuple[str, ...]
    probe_rows: np.ndarray  # [m] rows of the embeddings
    probe_condition: np.ndarray  # [m] indices into `conditions`
    probe_view: np.ndarray  # [m] indices into `views`
    gallery_rows: np.ndarray  # [n] rows of the embeddings
    gallery_counts: np.ndarray  # [v] gallery sequences per view
    notes: tuple[str, ...]


_CASIA_B_GALLERY = ("nm-01", "nm-02", "nm-03", "nm-04")
_CASIA_B_PROBES = {"NM": ("nm-05", "nm-06"), "BG": ("bg-01", "bg-02"), "CL": ("cl-01", "cl-02")}
_CASIA_B_VIEWS = tuple(f"{18 * number:03d}" for number in range(11))
# The means of these values are 94.96, 87.24 and 70.35. The original program prints the same means.
_GAITSET_BY_VIEW = {
    "NM": (90.8, 97.9, 99.4, 96.9, 93.6, 91.7, 95.0, 97.8, 98.9, 96.8, 85.8),
    "BG": (83.8, 91.2, 91.8, 88.8, 83.3, 81.0, 84.1, 90.0, 92.2, 94.4, 79.0),
    "CL": (61.4, 75.4, 80.7, 77.3, 72.1, 70.1, 71.5, 73.5, 73.5, 68.4, 50.0),
}
_CASIA_B_PUBLISHED = (
    PublishedRow(
        "original GaitSet, 80,000 iterations",
        {"NM": 95.405, "BG": 88.284, "CL": 72.041},
        {"NM": 94.964, "BG": 87.239, "CL": 70.355},
        {c: dict(zip(_CASIA_B_VIEWS, values, strict=True)) for c, values in _GAITSET_BY_VIEW.items()},
        "Chao et al., AAAI 2019, Table 1, large-sample training of 74 subjects",
    ),
    PublishedRow("om on Ascend 310", {"NM": 95.512}, None),
    # The source does not state whether identical views are included. The value and the script suggest that they are.
    PublishedRow("trained on 8 NPUs (most likely including)", {"NM": 93.744}, None),
)
PROTOCOLS = (
    Protocol("CASIA-B", _CASIA_B_GALLERY, _CASIA_B_PROBES, _CASIA_B_PUBLISHED),
    Protocol("OUMVLP", ("01",), {"NM": ("00",)}),
    Protocol("CASIA-A", ("nm-01", "nm-02"), {"NM": ("nm-03", "nm-04")}),
    Protocol("Synthetic", _CASIA_B_GALLERY, _CASIA_B_PROBES),
)


def canonical_name(dataset: str) -> str:
    """Return the spelling of `dataset` in the table, or `dataset` itself if the table does not contain it."""
    return next((row.name for row in PROTOCOLS if _normalized(row.name) == _normalized(dataset)), dataset)


def protocol_of(dataset: str, gallery: Sequence[str] = (), probe: Sequence[str] = ()) -> Protocol:
    """Return the protocol of a dataset, or a protocol with the takes that the user names.

    Case, `-`, `_` and spaces in `dataset` are ignored (OU-MVLP, ou_mvlp, casia-b).

    Args:
        gallery: words with one or several takes or patterns, separated by commas (default: the gallery in the table).
        probe: the same for the probes. A word can start with a condition, as in `NM=nm-05,nm-06`. In words without a
            condition, the condition of each take is its name up to the first hyphen or wildcard, in capitals.

    Raises:
        UsageError: the dataset is unknown and takes are not given, or a take belongs to two parts of the protocol.
    """
    name = canonical_name(dataset)
    known = next((protocol for protocol in PROTOCOLS if protocol.name == name), None)
    if known is None and not (gallery and probe):
        names = ", ".join(protocol.name for protocol in PROTOCOLS)
        raise UsageError(
            f"no evaluation protocol for dataset {dataset!r}: the known datasets are {names}; name the takes of the "
            "gallery and of the probes with --gallery and --probe, for example --gallery walk1 --probe walk2, or write "
            "embeddings without an evaluation with python -m model.embed"
        )
    takes = tuple(dict.fromkeys(take for word in gallery for take in _takes_of("--gallery", word)))
    own = Protocol(name, takes or known.gallery, _probes_of(probe) if probe else known.probes)
    if known is not None and (own.gallery, own.probes) == (known.gallery, known.probes):
        return known  # with its published figures
    parts = {"the gallery": own.gallery, **{f"the probes of {c}": takes for c, takes in own.probes.items()}}
    _reject_shared(dict.fromkeys(take for takes in parts.values() for take in takes), parts, UsageError)
    return own


def _takes_of(option: str, word: str, condition: str = "") -> list[str]:
    """Split `[CONDITION=]TAKE,TAKE` into its takes."""
    takes = [take.strip() for take in word.removeprefix(condition).split(",")]
    if not all(takes):
        raise UsageError(f"{option} {word}: a take has no name; write several takes as nm-01,nm-02, without blanks")
    return takes


def _probes_of(words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the takes per condition. The default condition is NM for `nm-05`, WALK2 for `walk2`, PROBE for `*`."""
    probes: dict[str, tuple[str, ...]] = {}
    for word in words:
        condition, equals, _ = word.partition("=")
        if equals and not is_plain_name(condition):
            raise UsageError(f"--probe {word}: the condition {condition!r} cannot be part of a file name of a figure; "
                             "write for example NM=nm-05,nm-06")  # fmt: skip
        for take in _takes_of("--probe", word, f"{condition}=" if equals else ""):
            name = condition if equals else re.split(r"[-*?\[]", take, maxsplit=1)[0].upper() or "PROBE"
            probes[name] = (*probes.get(name, ()), take)
    return {name: tuple(dict.fromkeys(takes)) for name, takes in probes.items()}


def _names(take: str, patterns: Sequence[str]) -> bool:
    """Return whether a take equals one of `patterns`, or matches a pattern with the wildcards *, ? or [...]."""
    return take in patterns or any(fnmatchcase(take, pattern) for pattern in patterns)


def _reject_shared(takes: Iterable[str], parts: Mapping[str, Sequence[str]], error: type[UserError]) -> None:
    """Raise `error` if a take belongs to several parts, because a probe could then be compared with itself."""
    for take in takes:
        shared = [part for part, patterns in parts.items() if _names(take, patterns)]
        if len(shared) > 1:
            raise error(
                f"take {take} belongs to {shared[0]} and to {shared[1]}: each take can belong to only one part of the "
                "protocol; change --gallery or --probe"
            )


def plan_of(seq_types: Sequence[str], views: Sequence[str], protocol: Protocol) -> Plan:
    """Split sequences into gallery and probes by their seq_type.

    Raises:
        UserError: the gallery or the probes are empty, or a seq_type matches patterns of several parts.
    """
    take = np.asarray(seq_types, dtype=str)
    present, numbers = np.unique(take, return_inverse=True)
    parts = {"the gallery": protocol.gallery, **protocol.probes}
    _reject_shared(present.tolist(), parts, UserError)
    belongs = {part: np.array([_names(t, names) for t in present.tolist()], bool) for part, names in parts.items()}
    rows_of = {part: np.flatnonzero(present_in_part[numbers]) for part, present_in_part in belongs.items()}
    unused = np.delete(take, np.concatenate(list(rows_of.values())))
    gallery_rows = rows_of.pop("the gallery")
    all_probes = [t for wanted in protocol.probes.values() for t in wanted]
    for part, wanted, count in (
        ("gallery", protocol.gallery, len(gallery_rows)),
        ("probe", all_probes, sum(map(len, rows_of.values()))),
    ):
        if not count:
            raise UserError(
                f"no {part} sequence for protocol {protocol.name}: the protocol needs seq_type {', '.join(wanted)}, "
                f"but the {len(take)} sequences have seq_type {some_names(take)}; check the data and --dataset, or "
                "name the takes with --gallery and --probe"
            )
    notes = [
        f"condition {c} is skipped: no sequence of seq_type {', '.join(protocol.probes[c])}"
        for c, rows in rows_of.items()
        if not len(rows)
    ]
    if len(unused):
        ignored = f"{counted(len(unused), 'sequence')} of seq_type {some_names(unused)}"
        notes.append(f"{ignored}: neither gallery nor probe in {protocol.name}, ignored")

    conditions = tuple(c for c, rows in rows_of.items() if len(rows))
    probe_rows = np.concatenate([rows_of[c] for c in conditions])
    names = [str(view) for view in views]
    ordered = sorted({names[i] for i in (*gallery_rows, *probe_rows)}, key=natural_key)
    place = {view: i for i, view in enumerate(ordered)}
    view_ids = np.array([place.get(view, -1) for view in names])
    return Plan(
        conditions=conditions,
        views=tuple(ordered),
        probe_rows=probe_rows,
        probe_condition=np.repeat(np.arange(len(conditions)), [len(rows_of[c]) for c in conditions]),
        probe_view=view_ids[probe_rows],
        gallery_rows=gallery_rows[np.argsort(view_ids[gallery_rows], kind="stable")],
        gallery_counts=np.bincount(view_ids[gallery_rows], minlength=len(ordered)),
        notes=tuple(notes),
    )


def _normalized(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")
