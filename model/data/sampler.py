"""P×K batches: P subjects, K sequences per subject, and a fixed number of frames per sequence."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from model.common.errors import UserError
from model.data.index import SequenceIndex


class BatchPlan(NamedTuple):
    """Planned batch.

    Attributes:
        sequences: positions in the index [P·K], grouped by subject.
        rows: rows of the packed frames [P·K, frame_num].
    """

    sequences: np.ndarray
    rows: np.ndarray


class PKSampler:
    """Draw P subjects without replacement, then K sequences per subject and `frame_num` frames per sequence, both with
    replacement.

    The batch of an iteration depends only on (seed, rank, iteration). Prefetching, stopping and resuming do not change
    it, and no state is saved. All sequences can be drawn; in the original, `> 0` instead of `>= 0` excludes the first.

    Raises:
        UserError: if there are fewer than P subjects.
    """

    def __init__(
        self,
        index: SequenceIndex,
        subjects: int,
        sequences: int,
        frame_num: int,
        seed: int = 0,
        rank: int = 0,
    ):
        names, codes = np.unique(index.subject, return_inverse=True)
        if len(names) < subjects:
            raise UserError(
                f"the training set has {len(names)} subjects, but a batch needs P = {subjects}: "
                "lower batch_size (--batch_size_p) or use more subjects (pid_num, --partition)"
            )
        self.index, self.frame_num, self.seed, self.rank = index, frame_num, seed, rank
        self.subjects, self.sequences = subjects, sequences
        self.by_subject = np.argsort(codes, kind="stable")  # positions, grouped by subject
        self.count = np.bincount(codes)
        self.first = np.cumsum(self.count) - self.count

    def plan(self, iteration: int) -> BatchPlan:
        """Return the batch of an iteration."""
        rng = np.random.default_rng((self.seed, self.rank, iteration))
        subjects = rng.choice(len(self.count), self.subjects, replace=False)[:, None]
        nth = rng.integers(self.count[subjects], size=(self.subjects, self.sequences))
        sequences = self.by_subject[self.first[subjects] + nth].reshape(-1)
        frames = rng.integers(self.index.frames[sequences][:, None], size=(len(sequences), self.frame_num))
        return BatchPlan(sequences, self.index.offset[sequences][:, None] + frames)
