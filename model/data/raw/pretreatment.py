"""Pretreatment: the raw tree of silhouettes to the same tree of aligned 64×64 PNG, by all cores, resumable.

What is done of each sequence, and how a run that ended early is taken up, is in `aligned_sequence.py`.
Sequences that have gone from the input stay in the output. Of two runs at a time into one output the second is
told so. No torch here: worker processes import this module.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

from model.common.cores import core_count, leave_interrupts_to_parent, map_in_processes
from model.common.errors import UsageError, UserError
from model.common.files import remove_leftovers
from model.common.lock import locked
from model.data.raw.aligned_sequence import SequenceJob, SequenceResult, aligned_name, pretreat_sequence
from model.data.raw.pretreatment_report import PretreatmentSummary, Reporter, open_log
from model.data.raw.silhouette import HEIGHT, BadImage, read_image
from model.data.raw.tree import SequenceFolder, scan_tree

LOCK = ".pretreatment.lock"
CHUNK_FRAMES = 256  # a task of this many frames takes about a tenth of a second
_stop = None  # in worker processes: the event that says that the run was interrupted


def pretreat(
    input_path: Path | str,
    output_path: Path | str,
    workers: int | None = None,
    *,
    log_file: Path | str | None = None,
    log_all: bool = False,
    skip_bad: bool = False,
    quiet: bool = False,
) -> PretreatmentSummary:
    """Align every frame below `input_path` that is not aligned yet, into the same tree below `output_path`.

    workers: processes, all cores when None; the same bytes come out whatever their number. log_file:
    appended to in the original's form, `# JOB <sequence> : --WARNING-- ...`: sequences without or with few
    frames, dropped frames, and as FAIL unreadable images; with `log_all` also what was done to each
    sequence. Unreadable images are named on stderr, skipped and counted; unless `skip_bad` they set
    `failed` in the summary. Raises UsageError for paths that cannot be meant, UserError for trees of
    another depth and when nothing can be written.
    """
    source, target = Path(input_path), Path(output_path)
    sequences = _checked_sequences(source, target, quiet)
    jobs = [
        SequenceJob(number, s.name, str(s.path), str(target / s.subject / s.seq_type / s.view), s.files)
        for number, s in enumerate(sequences)
    ]
    summary = PretreatmentSummary(sequences=len(jobs), frames=sum(len(job.frames) for job in jobs))
    start = time.perf_counter()
    with ExitStack() as stack:
        report = Reporter(summary, stack.enter_context(open_log(log_file)), log_all, quiet)
        stack.callback(report.bar.close)
        _make_folder(target)
        stack.enter_context(locked(target / LOCK, target))
        report.log(0, "START", f"{source} to {target}: {len(jobs)} sequences, {summary.frames} frames")
        _remove_leftovers(target)
        workers = workers or core_count()
        for results in stack.enter_context(closing(_run(_chunks(jobs, workers), workers))):
            report.add(results)
        if summary.dropped and not summary.kept:
            report.problem(0, "WARNING", f"{source}: no frame is usable; silhouettes must be white (255) on black")
        summary.seconds = time.perf_counter() - start
        summary.frames_per_second = summary.frames_worked_on / summary.seconds
        summary.failed = summary.unreadable > 0 and not skip_bad
        report.log(0, "FINISH", str(summary))
    return summary


# Before the work


def _checked_sequences(source: Path, target: Path, quiet: bool) -> list[SequenceFolder]:
    inside, outside = target.resolve(), source.resolve()
    if inside == outside or outside in inside.parents or inside in outside.parents:
        raise UsageError(f"{target}: the output must lie apart from the input {source}, neither inside the other")
    sequences = scan_tree(source, quiet)
    for sequence in sequences:
        if sequence.is_pickle:
            raise UsageError(
                f"{sequence.path / sequence.files[0]}: a pickle of OpenGait holds aligned frames already; "
                f"leave pretreatment out and give {source} to training and testing as it is"
            )
        names = {aligned_name(frame): frame for frame in sequence.files}
        if len(names) < len(sequence.files):
            twice = next(frame for frame in sequence.files if names[aligned_name(frame)] != frame)
            raise UserError(
                f"{sequence.path}: {twice} and {names[aligned_name(twice)]} would both become "
                f"{aligned_name(twice)}; keep one of them"
            )
    if _looks_aligned(sequences):
        raise UsageError(
            f"{source}: this tree looks aligned already, its frames are {HEIGHT}×{HEIGHT} from head to foot; "
            "leave pretreatment out, or give the raw silhouettes"
        )
    return sequences


def _looks_aligned(sequences: list[SequenceFolder]) -> bool:
    """Whether a frame of each of up to eight sequences is 64×64 with white in the two rows at both ends."""
    with_frames = [sequence for sequence in sequences if sequence.files]
    aligned = []
    for sequence in with_frames[:: max(1, len(with_frames) // 8)][:8]:
        try:
            image = read_image(sequence.path / sequence.files[len(sequence.files) // 2])
        except BadImage:  # named when its turn comes
            continue
        aligned.append(image.shape == (HEIGHT, HEIGHT) and image[:2].any() and image[-2:].any())
    return bool(aligned) and all(aligned)


def _make_folder(target: Path) -> None:
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{target}: cannot be used as output ({error.strerror})") from error


def _remove_leftovers(target: Path) -> None:
    """Delete the hidden folders of a run that was killed."""
    try:
        for seq_type in target.glob("*/*"):
            remove_leftovers(seq_type)
    except OSError as error:
        raise UserError(f"{target}: cannot be used as output ({error.strerror})") from error


# The workers


def _chunks(jobs: list[SequenceJob], workers: int) -> list[list[SequenceJob]]:
    """Tasks of whole sequences, so many that all workers end at about the same time."""
    size = min(CHUNK_FRAMES, sum(len(job.frames) for job in jobs) // (8 * workers))
    chunks: list[list[SequenceJob]] = []
    frames = size
    for job in jobs:
        if frames >= size:
            chunks.append([])
            frames = 0
        chunks[-1].append(job)
        frames += len(job.frames)
    return chunks


def _run(chunks: list[list[SequenceJob]], workers: int) -> Iterator[list[SequenceResult]]:
    """Results of the chunks as they come; in this process for one worker, else in that many new ones."""
    if min(workers, len(chunks)) == 1:
        for chunk in chunks:
            yield _pretreat_chunk(chunk)
        return
    stop = multiprocessing.get_context("spawn").Event()
    # After an error or Ctrl-C, the workers stop at the next frame and remove their temporary files.
    yield from map_in_processes(
        _pretreat_chunk, chunks, min(workers, len(chunks)), ordered=False, initializer=_start_worker,
        initargs=(stop,), before_shutdown=stop.set,
    )  # fmt: skip


def _start_worker(stop) -> None:
    """Ctrl-C is for the parent, which sets `stop`; a parent that was killed takes its workers with it."""
    global _stop
    _stop = stop
    leave_interrupts_to_parent()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _pretreat_chunk(jobs: list[SequenceJob]) -> list[SequenceResult]:
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)  # the processes keep the cores busy; threads inside would only get in their way
    try:
        stopped = _stop.is_set if _stop else lambda: False
        return [pretreat_sequence(job, stopped) for job in jobs]
    except OSError as error:
        where = error.filename or jobs[0].target
        raise UserError(f"{where}: cannot be read or written ({error.strerror})") from error
    finally:
        cv2.setNumThreads(threads)


# Reporting
