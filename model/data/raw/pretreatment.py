"""Pretreatment of a tree of raw silhouettes: write a tree of aligned 64×64 PNG files, on all cores.

A run continues where an earlier run ended; `aligned_sequence.py` describes how. Sequences that were removed from the
input stay in the output. A lock prevents two runs from writing the same output at the same time. Worker processes
import this module, so it does not import torch.
"""

import time
from contextlib import ExitStack, closing
from itertools import accumulate, groupby
from pathlib import Path

import cv2

from model.common.cores import core_count, map_in_processes, stopped
from model.common.errors import UsageError, UserError, counted, os_errors_as
from model.common.files import remove_leftovers
from model.common.geometry import ALIGNED_WIDTH, FRAME_HEIGHT
from model.common.lock import locked
from model.data.raw.aligned_sequence import SequenceJob, SequenceResult, aligned_name, pretreat_sequence
from model.data.raw.layouts import DEFAULT, LAYOUTS
from model.data.raw.pretreatment_report import LogFile, PretreatmentSummary, Reporter, nothing_kept
from model.data.raw.silhouette import BadImage, read_image
from model.data.raw.tree import SequenceFolder, scan_tree

LOCK = ".pretreatment.lock"
TASK_FRAMES = 256  # frames per task of a worker process; a task takes about 0.1 s


def pretreat(
    input_path: Path | str, output_path: Path | str, workers: int | None = None, *, log: LogFile | None = None,
    invert: bool = False, specks: bool = False, skip_bad: bool = False, layout: str = DEFAULT,
) -> PretreatmentSummary:  # fmt: skip
    """Align the frames below `input_path` and write the aligned frames below `output_path`.

    Frames that were aligned by an earlier run and have not changed are skipped. Unreadable images are reported on
    stderr, skipped and counted.

    Args:
        workers: number of processes (None: one per core). The output does not depend on this number.
        log: log file with a line for each sequence with few or no usable frames, for each dropped frame and, marked as
            FAIL, for each unreadable image.
        invert: the silhouettes are black on white.
        specks: remove specks (see `remove_specks`).
        skip_bad: do not set `failed` in the summary because of unreadable images, and leave out sequences that do not
            contain white silhouettes on black. If no frame is kept, `failed` is set nevertheless.
        layout: layout of the input, a name in `LAYOUTS`. The output always has the three levels of the default layout.

    Raises:
        UsageError: if a path is wrong, for example if the output is inside the input or the input is already aligned.
        UserError: if the input does not have the depth of `layout`; if the output cannot be written; or if a sequence
            does not contain white silhouettes on black (see `content.py`) and `skip_bad` is False.
    """
    source, target = Path(input_path), Path(output_path)
    sequences = _checked_sequences(source, target, layout)
    jobs = [
        SequenceJob(number, s.name, str(s.path), str(target / s.name), s.files, invert, specks, skip_bad)
        for number, s in enumerate(sequences)
    ]
    summary = PretreatmentSummary(sequences=len(jobs), frames=sum(len(job.frames) for job in jobs))
    start = time.perf_counter()
    with ExitStack() as stack:
        report = Reporter(summary, stack.enter_context(log or LogFile()))
        stack.callback(report.bar.close)
        stack.enter_context(locked(target / LOCK, target))
        amount = f"{counted(len(jobs), 'sequence')}, {counted(summary.frames, 'frame')}"
        report.log.write(0, "START", f"{source} to {target}: {amount}")
        with os_errors_as(f"{target}: cannot be used as output"):
            for seq_type in target.glob("*/*"):
                remove_leftovers(seq_type)  # hidden folders of killed runs
        workers = workers or core_count()
        tasks = _tasks(jobs, workers)
        results_of = map_in_processes(_pretreat_task, tasks, min(workers, len(tasks)), ordered=False)
        for results in stack.enter_context(closing(results_of)):
            report.add(results)
        summary.failed = summary.kept == 0 or (summary.unreadable > 0 and not skip_bad)
        if not summary.kept:
            report.conclude(f"{source}: no frame is usable: {nothing_kept(summary)}")
        elif summary.failed:
            report.conclude(
                f"{source}: {summary.unreadable} of {counted(summary.frames, 'image')} cannot be read; repair them and "
                "run the command again, or pass --skip_bad to leave them out"
            )
        summary.seconds = time.perf_counter() - start
        summary.frames_per_second = summary.frames_worked_on / summary.seconds
        report.log.write(0, "FINISH", str(summary))
    return summary


# Checks before the run


def _checked_sequences(source: Path, target: Path, layout: str) -> list[SequenceFolder]:
    """List the sequences of `source` and raise if they cannot be pretreated into `target`."""
    output, raw = target.resolve(), source.resolve()
    if output == raw or raw in output.parents or output in raw.parents:
        raise UsageError(
            f"{target}: the output and the input {source} must be separate folders; choose an output folder that is "
            "not inside the input and does not contain the input"
        )
    sequences = scan_tree(source, layout)
    for sequence in sequences:
        if sequence.is_pickle:
            raise UsageError(
                f"{sequence.path / sequence.files[0]}: pickles of OpenGait contain aligned frames; "
                f"skip pretreatment and give {source} to training and testing"
            )
        names: dict[str, str] = {}
        for frame in sequence.files:
            name = aligned_name(frame)
            if names.setdefault(name, frame) != frame:
                both = f"{names[name]} and {frame} would both be written as {name}"
                raise UserError(f"{sequence.path}: {both}; rename or delete one of them")
    if _looks_aligned(sequences):
        moving = "" if layout == DEFAULT else f", move the frames to {LAYOUTS[DEFAULT].path}"
        raise UsageError(
            f"{source}: the tree is already aligned: its frames are {FRAME_HEIGHT}×{ALIGNED_WIDTH} and the person "
            f"has the full height; skip pretreatment{moving}, or give the raw silhouettes"
        )
    return sequences


def _looks_aligned(sequences: list[SequenceFolder]) -> bool:
    """Return whether the frames are 64×64 with pixels of the person in the first two and in the last two rows.

    One frame of each of at most eight sequences is checked.
    """
    with_frames = [sequence for sequence in sequences if sequence.files]
    aligned = []
    for sequence in with_frames[:: max(1, len(with_frames) // 8)][:8]:
        try:
            image = read_image(sequence.path / sequence.files[len(sequence.files) // 2])
        except BadImage:  # the error is reported when the frame is processed
            continue
        aligned.append(image.shape == (FRAME_HEIGHT, ALIGNED_WIDTH) and image[:2].any() and image[-2:].any())
    return bool(aligned) and all(aligned)


# Workers


def _tasks(jobs: list[SequenceJob], workers: int) -> list[list[SequenceJob]]:
    """Group complete sequences into tasks that are small enough for all workers to finish at about the same time."""
    before = list(accumulate((len(job.frames) for job in jobs), initial=0))  # number of frames before each sequence
    size = max(1, min(TASK_FRAMES, before[-1] // (8 * workers)))
    groups = groupby(zip(jobs, before, strict=False), key=lambda pair: pair[1] // size)
    return [[job for job, _ in group] for _, group in groups]


def _pretreat_task(jobs: list[SequenceJob]) -> list[SequenceResult]:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)  # the processes already use all cores, so additional threads would slow them down
    try:
        # After an error or Ctrl-C, the workers end at the next frame and remove their temporary files.
        return [pretreat_sequence(job, stopped) for job in jobs]
    except OSError as error:
        where = error.filename or jobs[0].target
        raise UserError(f"{where}: cannot be read or written ({error.strerror})") from error
    finally:
        cv2.setNumThreads(threads)
