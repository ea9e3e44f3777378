"""Decide which checkpoints of a training run to keep: the last, the best, and as many others as configured."""

import logging
import uuid
from collections.abc import Mapping
from typing import Any

from model.checkpoints.checkpoint import CheckpointFiles
from model.checkpoints.metadata import update_metadata
from model.devices.world import launch_name

log = logging.getLogger(__name__)


class RunCheckpoints:
    """The checkpoints of one run, resumed or not. Checkpoints of other runs in the same folder are never deleted."""

    def __init__(self, files: CheckpointFiles, keep: int):
        self.files, self.keep = files, keep
        self.run = uuid.uuid4().hex  # distinguishes this run from others of the same experiment
        self.best: tuple[float, int] | None = None  # score, iteration
        self.saved: list[int] = []  # iterations of the existing checkpoints, in the order of writing
        self.initial_encoder: Mapping[str, Any] | None = None  # file and checksum; None: random initial weights

    def update_best(self, score: float, iteration: int) -> bool:
        """Remember the score of `iteration` if it is the best of the run. Return whether it is."""
        is_best = self.best is None or score > self.best[0]
        if is_best:
            self.best = (score, iteration)
        return is_best

    def save(self, iteration: int, parts: Mapping[str, Any], details: Mapping[str, Any]) -> None:
        """Write the checkpoint of `iteration`, then delete those of this run that are not to be kept."""
        of_run = {"run": self.run, "launch": launch_name(), "best": self.best}
        self.files.save(iteration, parts, {**of_run, "initial_encoder": self.initial_encoder, **details})
        self.saved = [*(i for i in self.saved if i != iteration), iteration]
        best = self.best[1] if self.best else None
        others = [i for i in self.saved[:-1] if i != best]
        for old in others[: max(0, len(others) - self.keep)]:
            self.files.remove(old)
            self.saved.remove(old)

    def update_metadata(self, iteration: int, **details: Any) -> None:
        """Update the best score and `details` in the metadata of an existing checkpoint."""
        update_metadata(self.files.metadata(iteration), {"best": self.best, **details})

    def adopt_run(self, iteration: int, metadata: Mapping[str, Any]) -> None:
        """Continue the run that wrote the checkpoint of `iteration`.

        Later checkpoints of that run stay in the folder, but no longer belong to it.
        """
        self.run, self.best = metadata["run"], tuple(metadata["best"]) if metadata["best"] else None
        self.initial_encoder = metadata.get("initial_encoder")
        earlier = [i for i in self.files.iterations() if i < iteration and self.files.run_of(i) == self.run]
        self.saved = [*earlier, iteration]

    def warn_of_others(self) -> None:
        """Log a warning before a new run replaces checkpoints of another run with the same names."""
        last = self.files.last_complete()
        if last is not None:
            log.warning(
                "%s holds checkpoints of another run, the last of iteration %d: --restore_iter -1 resumes it; this "
                "run replaces those of the same iterations (--work_path keeps runs apart)",
                self.files.folder, last,
            )  # fmt: skip
