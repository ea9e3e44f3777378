"""Last lines of a training log and the file CaseName.log of the Ascend model zoo, for programs that collect them."""

import logging
import math
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.common.files import write_file
from model.common.messages import RESULT
from model.config import ModelConfig

ZOO_FRAMES = 30  # frames per sequence of the recipe; the zoo scales its images/sec to it

log = logging.getLogger(__name__)


def log_for_the_zoo(
    summary: Mapping[str, Any], settings: ModelConfig, losses: Mapping[str, Any], folder: Path | None, writing: bool
) -> None:
    """Log the lines of the zoo's `train_full_*.sh`, or of its `train_performance_*.sh` if no checkpoint is `writing`.

    The zoo's images are sequences of 30 frames.

    Args:
        summary: what `Trainer.report` writes to its JSON file, of a run with iterations.
        losses: the last log point, or the mean losses of a run that ended before the first.
        folder: folder for a file with the name of the case and the lines from `Network` on, as the zoo's scripts write.
    """
    processes = summary["processes"]
    batch = math.prod(settings.batch_size) * processes
    images = summary["sequences_per_second"] * settings.frame_num / ZOO_FRAMES
    case = f"{settings.model_name}_bs{batch}_{processes}p_{'acc' if writing else 'perf'}"
    lines = [
        f"Network = {settings.model_name}",
        f"RankSize = {processes}",
        f"BatchSize = {batch}",
        f"DeviceType = {platform.machine()}",
        f"CaseName = {case}",
        f"ActualFPS = {images:.3f}",
        f"TrainingTime = {batch * 1000 / images:.2f}",
        f"ActualLoss = {losses[f'{settings.hard_or_full_trip}_loss_metric']:.6e}",
        f"E2ETrainingTime = {summary['seconds']:.0f}",
    ]
    title = "------------------ Final result ------------------"
    log.log(RESULT, "\n".join([title, f"Final Performance images/sec : {images:.3f}", *lines]))
    if folder is not None:
        write_file(folder / f"{case}.log", "".join(f"{line}\n" for line in lines))
