"""Define the task of a runtime: the deployed model to run, its input files and result folder, and settings."""

import re
from pathlib import Path
from typing import NamedTuple


class Task(NamedTuple):
    """A model, its input files, the folder of its results, and settings.

    Attributes:
        runtime: name of the runtime, one of `choice.RUNTIMES` except auto.
        info: list of input files, or None for pure inference.
        result_folder: folder of the results. Summaries, performance files and logs are written next to this folder.
        batch_size: batch size of the om file. If None, the batch size in the file name is used, which test/pth2om.sh
            has set.
        quiet: whether to hide the progress bar and the command line of the tool.
        share: start and end of the part of the list that is run; the end is excluded. Default: the whole list.
        threads: number of threads of ONNX Runtime. Default: one per core.
        warmup: number of batches of zeros to run before the measurement. External tools ignore it, because they have
            their own warmup.
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
        """Return `batch_size`. If it is None, return 16 for gaitset_submit_bs16.om and 1 for gaitset_submit.om.

        ATC may append the operating system and the processor to the file name, such as _linux_x86_64.
        """
        named = re.search(r"_bs(\d+)(?:_linux_\w+)?$", self.model.stem)
        return self.batch_size or (int(named[1]) if named else 1)

    def next_to_results(self, name: str) -> Path:
        return self.result_folder.with_name(name)

    def summary_path(self, batch_size: int) -> Path:
        """Return the path of the JSON file with the summary of the run."""
        kind = "perf_vision" if self.info else "pure_inference"
        return self.next_to_results(f"{kind}_batchsize_{batch_size}_device_{self.device_id}.json")
