"""A run of a deployed model: its runtime and files, and how to run it."""

import re
from pathlib import Path
from typing import NamedTuple


class Task(NamedTuple):
    """A model, its input files, and the folder of the results. Other files are written next to that folder.

    Attributes:
        info: list of input files, or None for pure inference.
        batch_size: of the om file. With None, it is taken from the file name as test/pth2om.sh sets it.
        quiet: without a progress bar and the command of the tool.
        share: first position in the list and the one after the last, to run only a part of it. Default: all.
        threads: threads of ONNX Runtime. Default: one per core.
        warmup: batches of zeros before the measured ones. The external tools run their own warmup instead.
        loop: number of batches of zeros in pure inference.
    """

    runtime: str
    model: Path
    info: Path | None
    result_folder: Path
    device_id: int = 0
    batch_size: int | None = None
    quiet: bool = False
    share: tuple[int, int] | None = None
    threads: int | None = None
    warmup: int = 1
    loop: int = 1

    def batch(self) -> int:
        """Return the batch size: gaitset_submit_bs16.om -> 16, gaitset_submit.om -> 1, unless it is given.

        ATC may append the name of the system to that of the file.
        """
        named = re.search(r"_bs(\d+)(?:_linux_\w+)?$", self.model.stem)
        return self.batch_size or (int(named[1]) if named else 1)

    def next_to_results(self, name: str) -> Path:
        return self.result_folder.with_name(name)

    def summary_path(self, batch_size: int) -> Path:
        """Return the path of the JSON file with the summary of the run."""
        kind = "perf_vision" if self.info else "pure_inference"
        return self.next_to_results(f"{kind}_batchsize_{batch_size}_device_{self.device_id}.json")
