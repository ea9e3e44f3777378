"""Write a raw tree of synthetic walkers, ROOT/<subject>/<seq_type>/<view>/*.png, with several processes."""

import json
import time
from functools import partial
from pathlib import Path

import torch

from model.common.cores import map_in_processes
from model.common.errors import UsageError
from model.common.files import atomic_folder, os_errors_as_user_errors, remove_leftovers
from model.common.json_files import write_json
from model.common.messages import progress_bar
from model.common.schema import parse_checked
from model.data.raw.silhouette import encode_png
from model.synthetic.settings import SETTINGS_FILE, WalkerSettings
from model.synthetic.walkers import Takes, pose_figures, render_views


def write_tree(output_path: Path | str, settings: WalkerSettings, workers: int = 1) -> dict:
    """Write the sequences that the tree lacks, and `synthetic.json` next to the folders of the subjects.

    The bytes do not depend on `workers`.

    Returns:
        {"subjects", "sequences", "frames", "seconds", "frames_per_second", "output_path"}.

    Raises:
        UsageError: if `output_path` is a file, or a folder with anything other than walkers of the same settings.
        UserError: if the tree cannot be written.
    """
    root = Path(output_path)
    start = time.perf_counter()
    with os_errors_as_user_errors(root):
        _claim(root, settings)
        tasks = [(root, settings, subject, take) for subject in settings.subject_numbers for take in settings.takes]
        with progress_bar(total=len(tasks), unit="takes", what="walking") as bar:
            # Each process uses one thread, because the processes share the cores, and because the order of summation
            # then does not depend on the number of cores.
            one_thread, threads = partial(torch.set_num_threads, 1), torch.get_num_threads()
            one_thread()
            try:
                for _ in map_in_processes(
                    _write_take, tasks, min(workers, len(tasks)), ordered=False, initializer=one_thread
                ):
                    bar.update()
            finally:
                torch.set_num_threads(threads)
        write_json(root / SETTINGS_FILE, settings.description() | {"complete": True})
    sequences = len(tasks) * len(settings.views)
    return settings.summary(root, sequences, sequences * settings.frames, time.perf_counter() - start)


def _claim(root: Path, settings: WalkerSettings) -> None:
    """Write `synthetic.json`, marked as incomplete.

    Raises:
        UsageError: if `root` is a file, or a folder with anything other than walkers of the same settings.
    """
    path = root / SETTINGS_FILE
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root}: is a file; give --output_path a new or empty folder")
    if path.is_file():
        try:
            found = parse_checked(path.read_bytes(), {})
        except ValueError:
            found = {}
        expected = json.loads(json.dumps(settings.description()))
        differing = [name for name in expected if found.get(name) != expected[name]]
        if differing:
            raise UsageError(
                f"{root}: contains walkers made with other arguments ({', '.join(differing)}); "
                "give --output_path a new folder or remove this one"
            )
    elif root.exists() and any(root.iterdir()):
        raise UsageError(f"{root}: contains other files; give --output_path a new or empty folder")
    write_json(path, settings.description() | {"complete": False})


def _is_complete(folder: Path, frames: int) -> bool:
    """Return whether the folder of a view is complete. It was written atomically, but a user may have deleted files."""
    return folder.is_dir() and sum(1 for _ in folder.glob("*.png")) == frames


def _write_take(task: tuple[Path, WalkerSettings, int, str]) -> None:
    """Write the missing views of one take. The folder of each view is written atomically."""
    root, settings, subject, take = task
    name = settings.folder_name(subject)
    folder = root / name / take
    missing = [view for view in settings.views if not _is_complete(folder / view, settings.frames)]
    if not missing:
        return
    if folder.is_dir():
        remove_leftovers(folder)
    takes = Takes.of([subject], [take])
    figure = pose_figures(settings, takes)
    for view in missing:
        sils = render_views(settings, takes, figure, [view]).frames().numpy()
        with atomic_folder(folder / view) as part:
            for number, sil in enumerate(sils, 1):
                (part / f"{name}-{take}-{view}-{number:03d}.png").write_bytes(encode_png(sil))
