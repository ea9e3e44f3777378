"""One training iteration: forward pass, losses, gradients, their exchange and the optimizer step."""

from dataclasses import dataclass

from torch import Tensor, nn

from model.config import ModelConfig
from model.devices import distributed
from model.network.gaitset import scale_strips
from model.network.triplet import triplet_losses
from model.training.state import TrainingState


@dataclass
class TrainingStep:
    """One training iteration. The host reads no value from the device, so it does not wait for the device.

    Attributes:
        model: the network, or DistributedDataParallel around the network, which averages gradients over processes.
        reference_loss: whether to compute the loss with torch's own kernels.
        flat_gradients: one tensor that holds all gradients (see `distributed.flatten_gradients`), so that each
            iteration writes the gradients to the same memory; None if `model` is wrapped or there is one process.
            `gradients` and `update` can then be CUDA graphs, and `exchange` averages the gradients between them.
    """

    model: nn.Module
    state: TrainingState
    settings: ModelConfig
    reference_loss: bool = False
    flat_gradients: Tensor | None = None

    def __call__(self, sils: Tensor, ends: Tensor | None, labels: Tensor | None = None) -> None:
        self.gradients(sils, ends, labels)
        self.exchange()
        self.update()

    def gradients(self, sils: Tensor, ends: Tensor | None, labels: Tensor | None = None) -> None:
        """Compute the gradients of a batch and add its losses to the meter."""
        embeddings = self.model(sils, ends=ends)
        compared = scale_strips(embeddings) if self.settings.unit_strips else embeddings
        losses = triplet_losses(compared, *self.settings.batch_size, self.settings.margin, self.reference_loss)
        loss = (losses.full if self.settings.hard_or_full_trip == "full" else losses.hard).mean()
        if self.state.classifier is not None:
            loss = loss + self.settings.cross_entropy * self.state.classifier(embeddings, labels)
        if self.flat_gradients is not None:
            self.flat_gradients.zero_()
        else:
            # No arguments: apex's method accepts none, and torch_npu's optimizer must keep the gradient tensors.
            self.state.optimizer.zero_grad()
        self.state.precision.backward(loss, self.state.optimizer)
        self.state.meter.add(losses)

    def exchange(self) -> None:
        """Average the gradients over processes, unless DistributedDataParallel has already averaged them."""
        if self.flat_gradients is not None:
            distributed.average_in_place(self.flat_gradients)

    def update(self) -> None:
        self.state.precision.step(self.state.optimizer)
