"""Last lines of a training log in the format of the Ascend model zoo, for programs that collect such logs."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from typing import Any

from model.config import ModelConfig

ZOO_FRAMES = 30  # frames per sequence of the recipe; the zoo scales its images/sec to it


def zoo_lines(summary: Mapping[str, Any], settings: ModelConfig, point: Mapping[str, Any], *, writing: bool) -> list:
    """Return the lines of the zoo's `train_full_*.sh`, or of its `train_performance_*.sh` if no checkpoint is written.

    The zoo's images are sequences of 30 frames. A run without iterations has no lines.

    Args:
        summary: what `Trainer.report` returns in its JSON file.
        point: the last log point; empty if there was none.
    """
    if not summary["iterations"]:
        return []
    processes = summary["processes"]
    batch = math.prod(settings.batch_size) * processes
    images = summary["sequences_per_second"] * settings.frame_num / ZOO_FRAMES
    loss = point.get(f"{settings.hard_or_full_trip}_loss_metric")
    return [
        "------------------ Final result ------------------",
        f"Final Performance images/sec : {images:.3f}",
        f"Network = {settings.model_name}",
        f"RankSize = {processes}",
        f"BatchSize = {batch}",
        f"DeviceType = {platform.machine()}",
        f"CaseName = {settings.model_name}_bs{batch}_{processes}p_{'acc' if writing else 'perf'}",
        f"ActualFPS = {images:.3f}",
        f"TrainingTime = {batch * 1000 / images:.2f}",
        f"ActualLoss = {'' if loss is None else f'{loss:.6e}'}",
        f"E2ETrainingTime = {summary['seconds']:.0f}",
    ]
