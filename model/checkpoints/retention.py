"""The checkpoints of one training run, resumed or not: which are written, which are kept, which is the best."""

from __future__ import annotations

import glob
import logging
import re
import uuid
from collections.abc import Mapping
from typing import Any

from model.checkpoints.checkpoint import CheckpointFiles
from model.common.files import read_json, write_json
from model.devices import distributed

log = logging.getLogger(__name__)


def remove_orphans(files: CheckpointFiles) -> None:
    """Delete what a run that was killed while it deleted a set has left of it: files whose encoder has gone already."""
    name = re.compile(re.escape(files.experiment) + r"-(\d{5,})(?:-optimizer\.ptm|-state\.ptm|\.json)")
    there = set(files.iterations())
    for path in files.folder.glob(f"{glob.escape(files.experiment)}-*"):
        match = name.fullmatch(path.name)
        if match and int(match[1]) not in there:
            path.unlink(missing_ok=True)


class RunCheckpoints:
    """Keeps the last and the best set of this run and `keep` others, and never touches those of other runs."""

    def __init__(self, files: CheckpointFiles, keep: int):
        self.files, self.keep = files, keep
        self.run = uuid.uuid4().hex  # tells the sets of this run from others of the same experiment
        self.best: tuple[float, int] | None = None  # score, iteration
        self.saved: list[int] = []  # iterations of the sets that are there, in the order of writing

    def is_better(self, score: float) -> bool:
        return self.best is None or score > self.best[0]

    def save(self, iteration: int, parts: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Write the set of `iteration`, then delete those that are not to be kept."""
        self.files.save(
            iteration, parts, {"run": self.run, "launch": distributed.launch_name(), "best": self.best, **facts}
        )
        self.saved = [*(i for i in self.saved if i != iteration), iteration]
        best = self.best[1] if self.best else None
        others = [i for i in self.saved[:-1] if i != best]
        for old in others[: max(0, len(others) - self.keep)]:
            self.files.remove(old)
            self.saved.remove(old)

    def amend(self, iteration: int, **facts: Any) -> None:
        """Have the record of a set that is there say `facts`, and what is the best by now."""
        record = read_json(self.files.record(iteration), sealed=True)
        write_json(self.files.record(iteration), {**record, "best": self.best, **facts}, durable=True, sealed=True)

    def take_up(self, iteration: int) -> dict[str, Any]:
        """Become the run that wrote the set of `iteration`; returns its record.

        Later sets of that run stay where they are: they are not this run's any more.
        """
        record = read_json(self.files.record(iteration), sealed=True)
        self.run, self.best = record["run"], tuple(record["best"]) if record["best"] else None
        earlier = [i for i in self.files.iterations() if i < iteration and self.files.run_of(i) == self.run]
        self.saved = [*earlier, iteration]
        return record

    def warn_of_others(self) -> None:
        """A run from the start replaces sets of the same name one by one: say so before it does."""
        last = self.files.last_complete()
        if last is not None:
            log.warning(
                "%s has checkpoints of another run, the last of iteration %d: --restore_iter -1 goes on from it; this "
                "run replaces those of the same iterations (--work_path keeps them apart)",
                self.files.folder, last,
            )  # fmt: skip
