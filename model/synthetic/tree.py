"""Writing a raw tree of synthetic walkers, ROOT/<subject>/<seq_type>/<view>/*.png, by several processes."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from model.common.cores import leave_interrupts_to_parent
from model.common.errors import UsageError
from model.common.files import atomic_folder, os_errors_as_user_errors, remove_leftovers, write_json
from model.common.messages import progress_bar
from model.synthetic.png import encode_png
from model.synthetic.recipe import DESCRIPTION, Recipe
from model.synthetic.walkers import Takes, photograph, walking_figures


def write_tree(output_path: Path | str, recipe: Recipe, workers: int = 1, quiet: bool = False) -> dict:
    """Write the tree and `synthetic.json` beside the subjects, and return what was done.

    Returns {"subjects", "sequences", "frames", "seconds", "frames_per_second", "output_path"}. The bytes do
    not depend on `workers`. Of a tree made with the same recipe only what is missing is written. Raises UsageError when
    `output_path` is a file or holds anything else, UserError when it cannot be written.
    """
    root = Path(output_path)
    if workers < 1:
        raise UsageError(f"--worker_num must be a whole number above 0, not {workers}")
    start = time.perf_counter()
    with os_errors_as_user_errors(root):
        _claim(root, recipe)
        tasks = [(root, recipe, subject, take) for subject in recipe.numbers for take in recipe.takes]
        bar = progress_bar(total=len(tasks), unit="takes", what="walking", quiet=quiet)
        with bar:
            for _ in _results(_write_take, tasks, min(workers, len(tasks))):
                bar.update()
        write_json(root / DESCRIPTION, recipe.description() | {"complete": True})
    seconds = time.perf_counter() - start
    sequences = len(tasks) * len(recipe.views)
    frames = sequences * recipe.frames
    return {
        "subjects": recipe.subjects,
        "sequences": sequences,
        "frames": frames,
        "seconds": seconds,
        "frames_per_second": frames / seconds,
        "output_path": str(root),
    }


def _claim(root: Path, recipe: Recipe) -> None:
    """Make sure that `root` is ours to write to, and leave a note of what it is going to hold."""
    described = root / DESCRIPTION
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root}: is a file, give --output_path a new or empty folder")
    if described.is_file():
        try:
            found = json.loads(described.read_text(encoding="utf-8"))
        except ValueError:
            found = {}
        wanted = json.loads(json.dumps(recipe.description()))
        differing = [name for name in wanted if not isinstance(found, dict) or found.get(name) != wanted[name]]
        if differing:
            raise UsageError(
                f"{root}: holds walkers made with other arguments ({', '.join(differing)}), "
                "give --output_path a new folder or remove this one"
            )
    elif root.exists() and any(root.iterdir()):
        raise UsageError(f"{root}: already holds other things, give --output_path a new or empty folder")
    write_json(described, recipe.description() | {"complete": False})


def _results(function: Callable, tasks: list[tuple], workers: int) -> Iterator:
    """Apply `function` to all tasks in this process, or in a pool; in no particular order."""
    if workers == 1:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as in the pool, so that no sum is ever taken in another order
        try:
            yield from map(function, tasks)
        finally:
            torch.set_num_threads(threads)
        return
    with multiprocessing.get_context("spawn").Pool(workers, _start_worker) as pool:
        yield from pool.imap_unordered(function, tasks)


def _start_worker() -> None:
    """One thread each: the processes share the cores. Ctrl-C is for the parent, which then ends them."""
    leave_interrupts_to_parent()
    torch.set_num_threads(1)


def _is_written(folder: Path, frames: int) -> bool:
    """Whether a view is there: its folder appears whole, so only a hand from outside can have thinned it out."""
    return folder.is_dir() and sum(1 for _ in folder.glob("*.png")) == frames


def _write_take(task: tuple[Path, Recipe, int, str]) -> None:
    """Write the views of one take that are not there yet; each view's folder appears whole."""
    root, recipe, subject, take = task
    name = recipe.name(subject)
    missing = [view for view in recipe.views if not _is_written(root / name / take / view, recipe.frames)]
    if not missing:
        return
    folder = root / name / take
    if folder.is_dir():
        remove_leftovers(folder)
    takes = Takes.of([subject], [take])
    figure = walking_figures(recipe.world, takes)
    for view in missing:
        sils = photograph(recipe.world, takes, figure, [view]).frames().numpy()
        with atomic_folder(folder / view) as part:
            for number, sil in enumerate(sils, 1):
                (part / f"{name}-{take}-{view}-{number:03d}.png").write_bytes(encode_png(sil))
