"""Load checkpoint files safely: check the file, unpickle only tensors and plain values, and report each problem."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.checkpoints.metadata import checksum, metadata_of_encoder, names_of_encoders
from model.checkpoints.state_dicts import Sizes, differences, find_state, sizes_of
from model.checkpoints.unpickling import ForbiddenGlobalError, unpickle
from model.common.errors import UserError, first_line
from model.network.gaitset import GaitSet

MAX_BYTES = 1 << 30  # largest file that is read; the file of the optimizer has 21 MB for hidden_dim 256
EXPORTED = (".onnx", ".om")
MAX_REPORTED = 4  # number of differences that one message lists


def check_exists(path: Path) -> None:
    """Raise UserError if a checkpoint is missing. The message names the encoders that exist in its folder."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder, not a checkpoint file; it holds {names_of_encoders(path)}")
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; its folder holds {names_of_encoders(path.parent)}")


def load_tensors(path: Path) -> Any:
    """Unpickle tensors and plain values on the CPU.

    Raises UserError if the file is missing or damaged, or if it holds other objects.
    """
    check_exists(path)
    if path.suffix in EXPORTED:
        raise UserError(
            f"{path}: is an exported model, not a checkpoint; run it with test.py --runtime auto, or give the "
            "checkpoint from which it was exported"
        )
    try:
        _check_archive(path)
        return unpickle(path)
    except ForbiddenGlobalError as error:
        raise UserError(
            f"{path}: holds {error}, but only tensors and plain values are loaded, because other objects can run code; "
            "save the state dict of the network alone: torch.save(network.state_dict(), FILE)"
        ) from error
    except Exception as error:  # the exception depends on where the file is damaged
        raise UserError(f"{path}: is damaged or not a checkpoint of tensors ({first_line(error)})") from error


def _check_archive(path: Path) -> None:
    """Raise ValueError if the file is damaged, or if its content is much larger than the file."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"it has {size:,} bytes; at most {MAX_BYTES:,} bytes are read")
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":  # torch's format before 1.6 is not a zip archive
            return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("its parts are compressed, but torch never compresses them")
        # torch would read nothing for such a part, raise no error, and use uninitialized memory as weights.
        if any(member.external_attr & 0x10 or member.compress_size != member.file_size for member in members):
            raise ValueError("one of its parts is marked as a folder or has two different sizes")
        if sum(member.file_size for member in members) > size:
            raise ValueError("its parts overlap")
        damaged = archive.testzip()  # torch writes checksums but does not verify them
    if damaged:
        raise ValueError(f"the checksum of {damaged} is wrong")


@dataclass(frozen=True)
class Encoder:
    """The weights of a GaitSet from a file. Their values and shapes are checked, but not against a configuration.

    Attributes:
        sha256: checksum of the file.
        weights: finite floating point tensors under the keys of this project.
        sizes: sizes of the network, which the shapes of the weights determine.
        metadata: how the checkpoint was made; empty if the checkpoint has no metadata.
    """

    path: Path
    sha256: str | None
    weights: Mapping[str, Tensor]
    sizes: Sizes
    metadata: Mapping[str, Any]

    def require_sizes(self, expected: Sizes) -> None:
        """Raise UserError if the sizes differ from `expected`. The message names the configuration keys to change."""
        sizes, wanted = ((size.hidden_dim, list(size.channels), size.unit_strips) for size in (self.sizes, expected))
        wrong = [
            f"{key} of the config must be {found}, not {given}"
            for key, found, given in zip(Sizes._fields, sizes, wanted, strict=True)
            if found != given
        ]
        if wrong:
            raise UserError(f"{self.path}: does not fit the network: {'; '.join(wrong)}")


def read_encoder(path: Path) -> Encoder:
    """Read the encoder of a checkpoint of this project, of the original code and its ports, or of OpenGait.

    Raises:
        UserError: if the file does not contain the weights of a GaitSet, a weight is not finite, or the metadata
            belong to another encoder.
    """
    content = load_tensors(path)
    sha256 = checksum(path)
    metadata = metadata_of_encoder(path, sha256)
    try:
        state = find_state(content)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    if not all(_is_dense(value) for value in state.values()):
        raise UserError(f"{path}: is not the state dict of a network")
    sizes = sizes_of(state)
    wrong = differences(sizes, state)
    if wrong:
        shown = "; ".join(wrong[:MAX_REPORTED])
        raise UserError(f"{path}: does not fit the network: {shown} ({len(wrong)} differences)")
    bad = [key for key, value in state.items() if not value.isfinite().all()]
    if bad:
        raise UserError(
            f"{path}: {len(bad)} of {len(state)} weights have values that are not finite ({bad[0]}); use another "
            "checkpoint"
        )
    return Encoder(path, sha256, state, sizes, metadata)


def load_encoder(network: GaitSet, path: Path) -> Mapping[str, Any]:
    """Load a checkpoint into a network, and return the metadata of the checkpoint.

    Raises UserError like `read_encoder`, and if the sizes of the network differ from the sizes in the checkpoint.
    """
    encoder = read_encoder(path)
    encoder.require_sizes(Sizes(network.hidden_dim, network.channels, network.unit_strips is not None))
    network.load_state_dict(encoder.weights)
    return encoder.metadata


def _is_dense(value: Any) -> bool:
    """Return whether `value` is a dense floating point tensor on the CPU with a storage large enough for its shape."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and value.is_floating_point()
        and value.untyped_storage().nbytes() >= value.numel() * value.element_size()
    )


def load_optimizer(optimizer: torch.optim.Optimizer, path: Path) -> None:
    """Load the state of Adam into `optimizer`. The options of `optimizer` stay, such as the learning rate and `fused`.

    Raises:
        UserError: if the state does not fit the optimizer, or contains values that are not finite.
    """
    state = load_tensors(path)
    options = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    try:
        groups = [
            {**group, "params": saved["params"]} for group, saved in zip(options, state["param_groups"], strict=True)
        ]
        optimizer.load_state_dict({"state": state["state"], "param_groups": groups})
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        for weight in weights if optimizer.state else ():
            _check_state(weight, optimizer.state[weight])
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
        raise UserError(f"{path}: does not fit the optimizer ({error}); resume from another checkpoint") from error


def _check_state(weight: Tensor, state: Mapping[str, Any]) -> None:
    """Raise ValueError if Adam's state of a weight has a wrong shape, or values that are impossible."""
    for name in ("exp_avg", "exp_avg_sq"):
        mean = state[name]
        if not _is_dense(mean.cpu()) or mean.shape != weight.shape:
            raise ValueError(f"{name} is {tuple(mean.shape)}, its weight is {tuple(weight.shape)}")
        if not mean.isfinite().all() or (name == "exp_avg_sq" and (mean < 0).any()):
            raise ValueError(f"{name} of a weight {tuple(weight.shape)} contains NaN, infinity or a negative square")
    if not 0 <= float(state["step"]) < 2**53:
        raise ValueError(f"step is {state['step']}")
