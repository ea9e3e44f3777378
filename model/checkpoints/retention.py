"""Keep the last and the best checkpoint of a run and as many others as configured, and delete its older checkpoints."""

import logging
import uuid
from collections.abc import Mapping
from typing import Any

from model.checkpoints.checkpoint import CheckpointFiles
from model.checkpoints.metadata import update_metadata
from model.devices.world import launch_name

log = logging.getLogger(__name__)


class RunCheckpoints:
    """The checkpoints of one run, also after it was resumed. Checkpoints of other runs are never deleted."""

    def __init__(self, files: CheckpointFiles, keep: int):
        self.files, self.keep = files, keep
        self.run = uuid.uuid4().hex  # distinguishes this run from other runs of the same experiment
        self.best: tuple[float, int] | None = None  # the best score and its iteration
        self.saved: list[int] = []  # iterations of the existing checkpoints of this run, in the order of writing
        self.initial_encoder: Mapping[str, Any] | None = None  # file and checksum; None for random initial weights

    def update_best(self, score: float, iteration: int) -> bool:
        """Return whether the score of `iteration` is the best score of the run. If so, remember it."""
        is_best = self.best is None or score > self.best[0]
        if is_best:
            self.best = (score, iteration)
        return is_best

    def save(self, iteration: int, parts: Mapping[str, Any], details: Mapping[str, Any]) -> None:
        """Write the checkpoint of `iteration`, then delete the checkpoints of this run that are no longer kept."""
        of_run = {"run": self.run, "launch": launch_name(), "best": self.best}
        self.files.save(iteration, parts, {**of_run, "initial_encoder": self.initial_encoder, **details})
        self.saved = [*(i for i in self.saved if i != iteration), iteration]
        best = self.best[1] if self.best else None
        others = [i for i in self.saved[:-1] if i != best]
        for old in others[: max(0, len(others) - self.keep)]:
            self.files.remove(old)
            self.saved.remove(old)

    def update_metadata(self, iteration: int, **details: Any) -> None:
        """Write the best score and `details` into the metadata of an existing checkpoint."""
        update_metadata(self.files.metadata(iteration), {"best": self.best, **details})

    def adopt_run(self, iteration: int, metadata: Mapping[str, Any]) -> None:
        """Continue the run that wrote the checkpoint of `iteration`.

        Checkpoints of that run with a higher iteration stay in the folder, but are not deleted or counted any more.
        """
        self.run, self.best = metadata["run"], tuple(metadata["best"]) if metadata["best"] else None
        self.initial_encoder = metadata.get("initial_encoder")
        earlier = [i for i in self.files.iterations() if i < iteration and self.files.run_of(i) == self.run]
        self.saved = [*earlier, iteration]

    def warn_of_others(self) -> None:
        """Log a warning if the folder holds checkpoints that a new run replaces, because they have the same names."""
        last = self.files.last_complete()
        if last is not None:
            log.warning(
                "%s holds checkpoints of another run, the last one of iteration %d; this run replaces the checkpoints "
                "of the same iterations; use --restore_iter -1 to resume the other run, or another --work_path to keep "
                "both",
                self.files.folder, last,
            )  # fmt: skip
