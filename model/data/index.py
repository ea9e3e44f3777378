"""The index of sequences: subject, condition and view of each sequence, and the position of its frames."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from model.common.natural_order import natural_key


@dataclass(frozen=True)
class SequenceIndex:
    """Columns of equal length with one entry per sequence.

    Attributes:
        subject, seq_type, view: labels, arrays of str.
        offset: first row of the sequence in the packed frames.
        frames: number of rows of the sequence.
    """

    subject: np.ndarray
    seq_type: np.ndarray
    view: np.ndarray
    offset: np.ndarray
    frames: np.ndarray

    @classmethod
    def from_lengths(
        cls, subject: Sequence[str], seq_type: Sequence[str], view: Sequence[str], frames: Sequence[int]
    ) -> "SequenceIndex":
        """Return the index of sequences that are stored one after another without gaps."""
        lengths = np.asarray(frames, dtype=np.int64)
        labels = (np.asarray(column, dtype=np.str_) for column in (subject, seq_type, view))
        return cls(*labels, np.cumsum(lengths) - lengths, lengths)

    def __len__(self) -> int:
        return len(self.subject)

    @property
    def subjects(self) -> list[str]:
        """The names of the subjects in natural order."""
        return sorted(set(self.subject.tolist()), key=natural_key)

    def name(self, position: int) -> str:
        return f"{self.subject[position]}/{self.seq_type[position]}/{self.view[position]}"

    def take(self, positions: np.ndarray) -> "SequenceIndex":
        """Return the entries at `positions` (integers or a mask), in the order of `positions`."""
        return SequenceIndex(*(column[positions] for column in vars(self).values()))

    def of_subjects(self, subjects: Iterable[str]) -> "SequenceIndex":
        return self.take(np.isin(self.subject, list(subjects)))
