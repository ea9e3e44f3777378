"""Plan P×K batches: P subjects, K sequences per subject, and a fixed number of frames per sequence."""

from typing import NamedTuple

import numpy as np

from model.common.errors import UserError
from model.data.index import SequenceIndex


class BatchPlan(NamedTuple):
    """The sequences and frames of a batch.

    Attributes:
        sequences: positions in the index, [P·K], grouped by subject.
        rows: rows of the packed frames, [P·K, frame_num].
    """

    sequences: np.ndarray
    rows: np.ndarray


class PKSampler:
    """Draws P = `subjects` subjects, K = `sequences` sequences per subject, and `frame_num` frames per sequence.

    Subjects are drawn without replacement. Sequences and frames are drawn with replacement.

    The batch of an iteration depends only on (seed, rank, iteration). Prefetching, stopping and resuming do not change
    the batch, and no state is saved. All sequences can be drawn. (The original code, AbnerHqC/GaitSet, compares with
    `> 0` instead of `>= 0`, so it never draws the first sequence.)

    With `by_view`, the sequences of a batch have only K / 2 different views, so negatives more often have the same view
    as the anchor. For a view that a subject lacks, any sequence of the subject is drawn instead.

    Attributes:
        labels: int64 [sequences in the index], the number of the subject of each sequence.

    Raises:
        UserError: if there are fewer than P subjects.
    """

    def __init__(
        self, index: SequenceIndex, subjects: int, sequences: int, frame_num: int, seed: int = 0, rank: int = 0,
        by_view: bool = False,
    ):  # fmt: skip
        names, codes = np.unique(index.subject, return_inverse=True)
        if len(names) < subjects:
            raise UserError(
                f"the training set has {len(names)} subjects, but a batch needs P = {subjects}: "
                "lower batch_size (--batch_size_p) or use more subjects (pid_num, --partition)"
            )
        self.index, self.frame_num, self.seed, self.rank = index, frame_num, seed, rank
        self.subjects, self.sequences, self.labels, self.by_view = subjects, sequences, codes, by_view
        views = np.unique(index.view, return_inverse=True)[1]
        # Positions of the sequences, sorted by subject and, if `by_view` is set, by view.
        self.by_subject = np.lexsort((views * by_view, codes))
        # For each view of each subject, the number of sequences and the position of its first sequence in `by_subject`.
        self.view_count = np.zeros((len(names), views.max() + 1), np.int64)
        np.add.at(self.view_count, (codes, views), 1)
        self.view_first = self.view_count.cumsum().reshape(self.view_count.shape) - self.view_count
        # The same numbers for each subject.
        self.count, self.first = self.view_count.sum(1), self.view_first[:, 0]

    def plan(self, iteration: int) -> BatchPlan:
        """Return the batch of an iteration."""
        rng = np.random.default_rng((self.seed, self.rank, iteration))
        subjects = rng.choice(len(self.count), self.subjects, replace=False)[:, None]
        count, first = self.count[subjects], self.first[subjects]
        if self.by_view:
            views = rng.permutation(self.view_count.shape[1])[: max(1, self.sequences // 2)]
            cells = subjects, np.resize(views, self.sequences)
            found = self.view_count[cells]
            count, first = np.where(found, found, count), np.where(found, self.view_first[cells], first)
        nth = rng.integers(count, size=(self.subjects, self.sequences))
        sequences = self.by_subject[first + nth].reshape(-1)
        frames = rng.integers(self.index.frames[sequences][:, None], size=(len(sequences), self.frame_num))
        return BatchPlan(sequences, self.index.offset[sequences][:, None] + frames)
