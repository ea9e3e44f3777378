"""Choose the pickle that holds the silhouettes of a sequence in multi-modal trees of OpenGait.

Such a tree has several pickles per view: for example 000-aligned-sils.pkl, 000-ratios.pkl, 000-rgbs.pkl and
000-sils.pkl; or 18 pickles, one of which is 06-000-Camera-Sils_aligned.pkl.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from model.common.errors import UsageError, UserError, counted
from model.data.raw.folders import PICKLE_SUFFIX
from model.data.raw.silhouette import BadImage
from model.data.raw.tree import SequenceFolder
from model.data.source import read_pickle

log = logging.getLogger(__name__)


def choose_pickles(sequences: Sequence[SequenceFolder], name: str = "") -> list[SequenceFolder]:
    """Return the sequences with one pickle each. Sequences of images and empty sequences are not changed.

    Args:
        name: the value of --pickle, see `_named`. If it is empty, the first pickle that exists of these: `<view>.pkl`;
            the only pickle with "aligned" and "sil" in its name; the only pickle that contains aligned silhouettes.
            The choice is logged.

    Raises:
        UsageError: if `name` is given, but there are no pickles.
        UserError: if no pickle or more than one pickle fits. The message lists the pickles and the option.
    """
    if name and not any(sequence.is_pickle for sequence in sequences):
        raise UsageError(f"--pickle {name}: the data contain no pickles; omit the option")
    chosen: list[SequenceFolder] = []
    patterns: dict[tuple[str, ...], str] = {}  # the kind to read, for each set of kinds that a view has
    used: dict[str, int] = {}  # number of views with several pickles, for each kind that is read
    for sequence in sequences:
        files = sequence.files
        if sequence.is_pickle and name:
            files = (_named(sequence, name.removesuffix(PICKLE_SUFFIX)),)
        elif sequence.is_pickle and len(files) > 1:
            kinds = tuple(map(sequence.kind, files))
            if kinds not in patterns:
                patterns[kinds] = sequence.kind(_fitting(sequence))
            files = (files[kinds.index(patterns[kinds])],)
            used[patterns[kinds]] = used.get(patterns[kinds], 0) + 1
        chosen.append(replace(sequence, files=files))
    for kind, count in used.items():
        views = f"{counted(count, 'view')} with several pickles"
        log.info("%s: reading %s%s (--pickle NAME chooses another pickle)", views, kind, PICKLE_SUFFIX)
    return chosen


def _named(sequence: SequenceFolder, name: str) -> str:
    """Return the pickle with the stem `name`, `<view>-<name>` or `<view>_<name>`.

    If there is none, `name` is a pattern that must match only one pickle. The pattern matches the whole stem, or the
    end of the stem after - or _, so `sils` also finds `01-000-sils`.
    """
    stems = {file.removesuffix(PICKLE_SUFFIX): file for file in sequence.files}
    for stem in (name, f"{sequence.view}-{name}", f"{sequence.view}_{name}"):
        if stem in stems:
            return stems[stem]
    found = [s for s in stems if any(fnmatchcase(s, pattern) for pattern in (name, f"*-{name}", f"*_{name}"))]
    if len(found) == 1:
        return stems[found[0]]
    problem = f"matches {', '.join(found)}" if found else f"matches none of {', '.join(stems)}"
    raise UserError(f"{sequence.path}: --pickle {name} {problem}; {_advice(sequence)}")


def _fitting(sequence: SequenceFolder) -> str:
    """Return the pickle of the silhouettes. Raises UserError if no pickle or several pickles could hold them."""
    files = sequence.files
    if sequence.view + PICKLE_SUFFIX in files:
        return sequence.view + PICKLE_SUFFIX
    aligned = [file for file in files if _is_aligned(file) and "sil" in file.lower()]
    if len(aligned) == 1:
        return aligned[0]
    reasons = {}
    for file in files:
        try:
            read_pickle(sequence.path / file)
        except (BadImage, UserError) as error:
            reasons[file] = str(error).removeprefix(f"{sequence.path / file}: ").split(";")[0]
    fitting = [file for file in files if file not in reasons]
    fitting = [file for file in fitting if _is_aligned(file)] or fitting
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        problem = f"{len(fitting)} of {len(files)} pickles could hold the silhouettes ({', '.join(fitting)})"
        raise UserError(f"{sequence.path}: {problem}; {_advice(sequence, fitting[0])}")
    problem = "; ".join(f"{file}: {reason}" for file, reason in reasons.items())
    found = f"none of {len(files)} pickles holds aligned silhouettes ({problem})"
    raise UserError(f"{sequence.path}: {found}; give a tree with a pickle of aligned silhouettes per view")


def _is_aligned(file: str) -> bool:
    """Return whether a name contains the word "aligned", not "unaligned" or "misaligned"."""
    return re.search(r"(?<![a-z])aligned", file.lower()) is not None


def _advice(sequence: SequenceFolder, file: str | None = None) -> str:
    example = sequence.kind(file or sequence.files[0]).replace("<view>", "*").removeprefix("*-")
    return f"choose one with --pickle NAME, for example --pickle {example!r}"
