"""Pretreatment: the raw tree of silhouettes to the same tree of aligned 64×64 PNG, by all cores, resumable.

What is done of each sequence, and how a run that ended early is taken up, is in `aligned_sequence.py`.
Sequences that have gone from the input stay in the output. Two runs at a time into one output are not
provided for. No torch here: worker processes import this module.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from model.data.aligned_sequence import SequenceJob, SequenceResult, aligned_name, pretreat_sequence
from model.data.silhouette import HEIGHT, MINIMUM_FRAMES, BadImage, read_image
from model.data.tree import SequenceFolder, scan_tree
from model.errors import UsageError, UserError
from model.files import remove_leftovers

CHUNK_FRAMES = 256  # a task of this many frames takes about a tenth of a second
MESSAGES_SHOWN = 20  # the log file has them all

_stop = None  # in worker processes: the event that says that the run was interrupted


@dataclass
class PretreatmentSummary:
    """What a run found and did. `frames` is what the input holds: kept + dropped + unreadable."""

    sequences: int = 0
    done: int = 0  # sequences of which at least one frame was worked on
    unchanged: int = 0  # sequences kept from before
    empty: int = 0  # no usable frame
    short: int = 0  # fewer than five, but some
    frames: int = 0
    kept: int = 0
    dropped: int = 0
    unreadable: int = 0
    frames_worked_on: int = 0
    seconds: float = 0.0
    frames_per_second: float = 0.0
    failed: bool = False  # unreadable images, and they were not to be skipped
    problems: list[str] = field(default_factory=list)  # a line for each unreadable, empty, short one

    def __str__(self) -> str:
        return (
            f"{self.sequences} sequences: {self.done} done, {self.unchanged} kept from before, "
            f"{self.empty} empty, {self.short} short; {self.frames} frames: {self.kept} kept, "
            f"{self.dropped} dropped, {self.unreadable} unreadable; {self.frames_worked_on} frames in "
            f"{self.seconds:.1f} s, {self.frames_per_second:.0f} frames/s"
        )


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
    sequences = _checked_sequences(source, target)
    jobs = [
        SequenceJob(number, s.name, str(s.path), str(target / s.subject / s.seq_type / s.view), s.files)
        for number, s in enumerate(sequences)
    ]
    summary = PretreatmentSummary(sequences=len(jobs), frames=sum(len(job.frames) for job in jobs))
    start = time.perf_counter()
    with ExitStack() as stack:
        report = _Reporter(summary, stack.enter_context(_log(log_file)), log_all, quiet)
        stack.callback(report.bar.close)
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


def core_count() -> int:
    """The cores this process may use, which in a container may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# Before the work


def _checked_sequences(source: Path, target: Path) -> list[SequenceFolder]:
    inside, outside = target.resolve(), source.resolve()
    if inside == outside or outside in inside.parents or inside in outside.parents:
        raise UsageError(f"{target}: the output must lie apart from the input {source}, neither inside the other")
    sequences = scan_tree(source)
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


def _remove_leftovers(target: Path) -> None:
    """Make the output folder, and delete the hidden folders of a run that was killed."""
    try:
        target.mkdir(parents=True, exist_ok=True)
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
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(min(workers, len(chunks)), context, _start_worker, (stop,))
    try:
        futures = [pool.submit(_pretreat_chunk, chunk) for chunk in chunks]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process was killed, perhaps for want of memory; run the same command again to go on, "
            "with fewer workers if it recurs"
        ) from None
    finally:  # after an error or Ctrl-C the workers end at the next frame and tidy up
        stop.set()
        pool.shutdown(cancel_futures=True)


def _start_worker(stop) -> None:
    """Ctrl-C is for the parent, which sets `stop`; a parent that was killed takes its workers with it."""
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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


@contextmanager
def _log(log_file: Path | str | None) -> Iterator[TextIO | None]:
    if log_file is None:
        yield None
        return
    try:
        Path(log_file).parent.mkdir(parents=True, exist_ok=True)
        stream = Path(log_file).open("a", encoding="utf-8")  # noqa: SIM115, closed below
    except OSError as error:
        raise UsageError(f"{log_file}: cannot be written as log file ({error.strerror})") from error
    with stream:
        yield stream


class _Reporter:
    """Adds results to the summary, the log file, the bar and, as far as they are problems, to stderr."""

    def __init__(self, summary: PretreatmentSummary, stream: TextIO | None, log_all: bool, quiet: bool):
        from tqdm import tqdm

        self.summary, self.stream, self.log_all = summary, stream, log_all
        self.bar = tqdm(total=summary.frames, unit="frame", desc="pretreatment", disable=quiet or None)

    def add(self, results: list[SequenceResult]) -> None:
        for result in results:
            self._count(result)
            for message in result.unreadable:
                self.problem(result.number, "FAIL", message)
            for frame in result.dropped:
                self.log(result.number, "WARNING", f"{result.name}/{frame}: dropped, no silhouette in it")
            if result.kept < MINIMUM_FRAMES:
                self.problem(result.number, "WARNING", _few_frames(result))
            if result.changed:
                done = f"{result.name}: {result.worked_on} frames done, {result.kept} kept"
                self.log(result.number, "FINISH", done)
            self.bar.update(result.frames)
        if self.stream:
            self.stream.flush()

    def log(self, number: int, comment: str, message: str) -> None:
        """The original's form of a line, and its rule: START and FINISH only where all is asked for."""
        if self.stream and (self.log_all or comment in ("WARNING", "FAIL")):
            self.stream.write(f"# JOB {number} : --{comment}-- {message}\n")

    def _count(self, result: SequenceResult) -> None:
        summary = self.summary
        summary.done += result.changed
        summary.unchanged += not result.changed
        summary.empty += result.kept == 0
        summary.short += 0 < result.kept < MINIMUM_FRAMES
        summary.kept += result.kept
        summary.dropped += len(result.dropped) + result.dropped_before
        summary.unreadable += len(result.unreadable)
        summary.frames_worked_on += result.worked_on

    def problem(self, number: int, comment: str, message: str) -> None:
        self.log(number, comment, message)
        self.summary.problems.append(message)
        if len(self.summary.problems) <= MESSAGES_SHOWN:
            self.bar.write(f"warning: {message}", file=sys.stderr)
        elif len(self.summary.problems) == MESSAGES_SHOWN + 1:
            self.bar.write("warning: and more like these, see the log file", file=sys.stderr)


def _few_frames(result: SequenceResult) -> str:
    if result.kept:
        return f"{result.name}: only {result.kept} of {result.frames} frames are usable"
    return f"{result.name}: none of {result.frames} frames is usable, the sequence is left out"
