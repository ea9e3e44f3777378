"""Write, verify, list and delete the checkpoint files of one experiment.

    <experiment>-<iteration>-encoder.ptm      state dict of the network, with the published keys
    <experiment>-<iteration>-optimizer.ptm    state dict of the optimizer
    <experiment>-<iteration>-state.ptm        state of the random numbers and of the loss scaler, sums of the losses
    <experiment>-<iteration>.json             metadata, written last: checksums of the parts, config, versions, results

A checkpoint is complete if its metadata exist and the checksums match. If a run is killed while it writes a checkpoint,
the previous checkpoint is still the last complete one.
"""

import hashlib
import io
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model.checkpoints.metadata import METADATA, PARTS, checkpoint_name, checksum, parse_name, read_metadata
from model.common.files import atomic_file, remove_leftovers
from model.common.json_files import write_json


@dataclass(frozen=True)
class CheckpointFiles:
    """The checkpoints of one experiment in one folder."""

    folder: Path
    experiment: str

    def part(self, iteration: int, name: str) -> Path:
        """Return the path of a file of a checkpoint. `name` is one of PARTS, or METADATA."""
        return self.folder / checkpoint_name(self.experiment, iteration, name)

    def metadata(self, iteration: int) -> Path:
        return self.part(iteration, METADATA)

    def _files(self) -> list[tuple[Path, int, str]]:
        """Return the existing files of the experiment, with their iteration and part."""
        named = ((path, parse_name(path.name)) for path in self.folder.glob("*"))
        return [(path, *name[1:]) for path, name in named if name and name[0] == self.experiment]

    def iterations(self) -> list[int]:
        """Return the iterations that have an encoder, in ascending order."""
        return sorted(iteration for _, iteration, part in self._files() if part == "encoder")

    def complete_metadata(self, iteration: int) -> dict[str, Any] | None:
        """Return the metadata of a checkpoint, or None if the checkpoint is not complete."""
        metadata = read_metadata(self.metadata(iteration))
        return metadata if metadata is not None and self._matches(iteration, metadata) else None

    def _matches(self, iteration: int, metadata: Mapping[str, Any]) -> bool:
        return all(checksum(self.part(iteration, name)) == metadata["files"].get(name) for name in PARTS)

    def last_complete(self, launch: str | None = None) -> int | None:
        """Return the iteration of the complete checkpoint that was written last, or None if none is complete.

        This is not necessarily the highest iteration, because several runs can share the folder.

        Args:
            launch: consider only checkpoints that processes of this launch have written; None considers all.
        """
        found = {iteration: read_metadata(self.metadata(iteration)) for iteration in self.iterations()}
        found = {i: metadata for i, metadata in found.items() if metadata is not None}
        newest_first = sorted(found, key=lambda i: found[i]["time"], reverse=True)
        candidates = (i for i in newest_first if launch is None or found[i].get("launch") == launch)
        return next((i for i in candidates if self._matches(i, found[i])), None)

    def run_of(self, iteration: int) -> str | None:
        """Return the ID of the run that wrote a checkpoint, or None if it has no metadata, like published ones."""
        return (read_metadata(self.metadata(iteration)) or {}).get("run")

    def save(self, iteration: int, parts: Mapping[str, Any], details: Mapping[str, Any]) -> None:
        """Write a checkpoint, the metadata last. Each file is replaced atomically and flushed to the disk."""
        remove_leftovers(self.folder, f"{self.experiment}-", keep_running=True)
        checksums = {}
        for name in PARTS:
            # Serialize in memory, because torch's file writer hides the error of the operating system on a full disk.
            content = io.BytesIO()
            torch.save(parts[name], content)
            checksums[name] = hashlib.sha256(content.getbuffer()).hexdigest()
            with atomic_file(self.part(iteration, name), durable=True) as temporary:
                temporary.write_bytes(content.getbuffer())
        versions = {"torch": torch.__version__, "python": platform.python_version()}
        metadata = {"iteration": iteration, "time": time.time(), "files": checksums, "versions": versions, **details}
        write_json(self.metadata(iteration), metadata, durable=True, sealed=True)

    def remove(self, iteration: int) -> None:
        """Delete a checkpoint.

        The encoder is deleted first. If the deletion is interrupted, `remove_partial` deletes the other files.
        """
        for name in ("encoder", METADATA, "optimizer", "state"):
            self.part(iteration, name).unlink(missing_ok=True)

    def remove_partial(self) -> None:
        """Delete the files of checkpoints without an encoder, whose deletion was interrupted."""
        complete = set(self.iterations())
        for path, iteration, _ in self._files():
            if iteration not in complete:
                path.unlink(missing_ok=True)
