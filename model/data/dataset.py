"""The data of a run: a store and the partition of its subjects."""

from dataclasses import dataclass

from model.common.errors import UserError
from model.data.partition import Partition
from model.data.store import SilhouetteStore


@dataclass(frozen=True)
class Data:
    """The store of all sequences, and its parts for training and testing.

    `resident`: training keeps the frames on the device if they fit.
    """

    store: SilhouetteStore
    partition: Partition
    resident: bool = True

    @property
    def train(self) -> SilhouetteStore:
        return self._part(self.partition.train, "training")

    @property
    def test(self) -> SilhouetteStore:
        return self._part(self.partition.test, "test")

    def _part(self, subjects: tuple[str, ...], name: str) -> SilhouetteStore:
        index = self.store.index.of_subjects(subjects)
        if not len(index):
            raise UserError(
                f"{self.store.path}: no {name} sequences: the partition assigns {len(subjects)} of "
                f"{len(self.store.index.subjects)} subjects to {name}; see pid_num and --partition"
            )
        return SilhouetteStore(self.store.path, index, self.store.frames)
