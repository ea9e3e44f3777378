"""The state of a training run, as its checkpoints hold it, and the detection of NaN and infinity in this state."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves, tree_map_only

from model.common.errors import UserError
from model.training.log_book import FIELDS, LossMeter
from model.training.precision import Precision


class NonFiniteError(UserError):
    """A loss, weight or optimizer state is NaN or infinite, or its gradients overflow in every step."""


class EvaluationError(UserError):
    """The evaluation during a training run failed."""


@dataclass
class TrainingState:
    """Network, optimizer, precision, sums of the losses, and counters.

    Attributes:
        network: the GaitSet itself, not a wrapper of it.
        iteration: number of completed iterations.
        saved_at: iteration of the newest checkpoint on disk.
        evaluated: iteration of the last evaluation.
        classifier: classifier of the training subjects, or None. It is saved in the state file of a checkpoint, not in
            the encoder file.
    """

    network: nn.Module
    optimizer: Optimizer
    precision: Precision
    meter: LossMeter
    iteration: int = 0
    saved_at: int | None = None
    evaluated: int = 0
    classifier: nn.Module | None = None

    def is_finite(self) -> bool:
        """Return whether the weights, the optimizer state and the losses of this process are finite."""
        return all_finite((self.network.state_dict(), self.optimizer.state_dict()["state"], self.meter.sums))

    def parts(self, sums: Tensor) -> dict[str, Any]:
        """Return the content of each file of a checkpoint: encoder, optimizer and state.

        Args:
            sums: sums of the losses of each rank, [ranks, 4] or [4].
        """
        state = {
            "random": torch.get_rng_state(),
            "precision": self.precision.state_dict(),
            "meter": {"sums": sums, "iterations": self.meter.iterations},
        }
        if self.classifier is not None:
            state["classifier"] = self.classifier.state_dict()
        return {
            # Store the weights in the dtype and layout that other programs expect.
            "encoder": {key: value.float().contiguous() for key, value in self.network.state_dict().items()},
            "optimizer": self.optimizer.state_dict(),
            "state": state,
        }

    def restore(self, state: Mapping[str, Any], rank: int, world_size: int, same_precision: bool) -> None:
        """Restore the values that an exact resume needs in addition to the network and the optimizer.

        Args:
            state: content of the state file of a checkpoint.
            same_precision: whether the checkpoint was written with the same `--amp`.
        """
        torch.set_rng_state(state["random"])
        if self.classifier is not None:
            self.classifier.load_state_dict(state["classifier"])
        if same_precision:
            self.precision.load_state_dict(state["precision"])
        sums = state["meter"]["sums"].reshape(-1, len(FIELDS))
        self.meter.sums.copy_(sums[rank] if len(sums) == world_size else sums.mean(0))
        self.meter.iterations = int(state["meter"]["iterations"])


def all_finite(values: Any) -> bool:
    """Return whether all floating point tensors in nested `values` are finite. Synchronizes with the device once."""
    tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    flags = [tensor.isfinite().all() for tensor in tensors]
    return not flags or bool(torch.stack([flag.to(flags[0].device) for flag in flags]).all())


def map_tensors(values: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Return nested `values` in which each tensor is detached and replaced by the result of `function`."""
    return tree_map_only(Tensor, lambda tensor: function(tensor.detach()), values)
