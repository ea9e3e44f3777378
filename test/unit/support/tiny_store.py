"""Define a store in memory with a few short sequences."""

import numpy as np

from model.data.index import SequenceIndex

FRAMES = [3, 7, 4, 5, 1]


class TinyStore:
    """Random sequences with the given numbers of frames. The subjects 075, 076, ... have two sequences each."""

    def __init__(self, frames=FRAMES):
        subjects = [f"{75 + i // 2:03d}" for i in range(len(frames))]
        seq_types = ["nm-01" if i % 2 else "bg-02" for i in range(len(frames))]
        self.index = SequenceIndex.from_lengths(subjects, seq_types, ["090"] * len(frames), frames)
        random = np.random.default_rng(0)
        self.sequences = [random.integers(0, 256, (f, 64, 44), dtype=np.uint8) for f in frames]

    def sequence(self, position):
        return self.sequences[position]
