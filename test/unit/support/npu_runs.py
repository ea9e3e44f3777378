"""Arguments and checkpoints of short trainings on the stand-in for an NPU."""

import training_runs

from model.checkpoints.loading import load_tensors

TOTAL, HALF = 4, 2  # iterations
FP16 = training_runs.FP16
APEX = ("--amp", "apex", "--loss_scale")
OLDER = {"NPUSIM_CHIP": "Ascend910ProB"}  # an older chip, which saturates on overflow and sets a flag


def arguments(tree, work, *more) -> list[str]:
    return training_runs.arguments(tree, work, "--iters", TOTAL, "--save_iter", HALF, *more)


def part(work, name: str, iteration: int = TOTAL) -> dict:
    """Return the content of a part, such as encoder or optimizer, of the checkpoint of an iteration."""
    return load_tensors(next(work.glob(f"checkpoint/*/*-{iteration:05d}-{name}.ptm")))


def weights(work, iteration: int = TOTAL) -> dict:
    return part(work, "encoder", iteration)
