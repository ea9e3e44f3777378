"""Report the progress and the result of pretreatment: summary, log file, progress bar and warnings."""

import errno
import os
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from model.common.errors import UsageError, UserError, counted, one_line, os_errors_as
from model.common.messages import progress_bar
from model.data.raw.aligned_sequence import SequenceResult
from model.data.raw.silhouette import DROP_REASONS, MIN_FRAMES

MAX_WARNINGS = 20  # on stderr; the log file contains all warnings


@dataclass
class PretreatmentSummary:
    """The numbers of a run. `frames` is the number of frames of the input: kept + dropped + unreadable."""

    sequences: int = 0
    done: int = 0  # sequences in which at least one frame was processed or removed
    unchanged: int = 0  # all other sequences
    empty: int = 0  # sequences without a usable frame
    short: int = 0  # sequences with fewer than MIN_FRAMES usable frames, but at least one
    frames: int = 0
    kept: int = 0
    dropped: int = 0
    unreadable: int = 0
    frames_worked_on: int = 0
    seconds: float = 0.0
    frames_per_second: float = 0.0
    failed: bool = False  # no frame is kept, or there are unreadable images and `skip_bad` is False
    # A message for each unreadable frame, for each sequence that is left out, empty or short, and for a failed run.
    problems: list[str] = field(default_factory=list)
    drop_reasons: dict[str, int] = field(default_factory=dict)  # number of dropped frames for each reason
    readings: dict[str, int] = field(default_factory=dict)  # number of sequences for each message of `Reading.notes`

    def __str__(self) -> str:
        return (
            f"{counted(self.sequences, 'sequence')}: {self.done} done, {self.unchanged} kept from before, "
            f"{self.empty} empty, {self.short} short; {counted(self.frames, 'frame')}: {self.kept} kept, "
            f"{self.dropped} dropped, {self.unreadable} unreadable; {counted(self.frames_worked_on, 'frame')} in "
            f"{self.seconds:.1f} s, {self.frames_per_second:.0f} frames/s"
        )

    def notes(self) -> list[str]:
        """Return a line on the reasons of dropped frames, and a line for each change to the frames that were read."""
        dropped = ", ".join(f"{count} {reason}" for reason, count in Counter(self.drop_reasons).most_common())
        notes = [f"dropped frames: {dropped}"] if dropped else []
        return notes + [f"{counted(count, 'sequence')}: {note}" for note, count in self.readings.items()]


_UNUSABLE_PATH = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EACCES, errno.EPERM)


class LogFile:
    """A log file in the format of the original code, opened for appending. Without a path, nothing is written.

    Entering the context raises UsageError if the path is not usable. `write` raises UserError if the file cannot be
    written, for example because the disk is full.

    Args:
        log_all: also write the lines START and FINISH, as the original code does.
    """

    def __init__(self, path: Path | str | None = None, log_all: bool = False):
        self.path, self.log_all, self.stream = path, log_all, None

    def __enter__(self) -> "LogFile":
        if self.path is not None:
            try:
                Path(self.path).parent.mkdir(parents=True, exist_ok=True)
                self.stream = Path(self.path).open("a", encoding="utf-8", buffering=1)
            except OSError as error:
                error_type = UsageError if error.errno in _UNUSABLE_PATH else UserError
                raise error_type(f"{self.path}: cannot be opened as log file ({error.strerror})") from error
        return self

    def __exit__(self, *error: object) -> None:
        if self.stream:
            with suppress(OSError):  # each line was already flushed, or `write` has raised its error
                self.stream.close()

    def write(self, number: int, comment: str, message: str) -> None:
        if self.stream and (self.log_all or comment in ("WARNING", "FAIL")):
            with os_errors_as(f"{self.path}: the log file cannot be written"):
                self.stream.write(f"# JOB {number} : --{comment}-- {one_line(message)}\n")


def default_log_file(output_path: Path | str) -> str:
    """Return ./pretreatment.log, or pretreatment.log in the output folder if the first file cannot be written."""
    name = "pretreatment.log"
    writable = os.access(name if Path(name).exists() else ".", os.W_OK)
    return f"./{name}" if writable else str(Path(output_path, name))


class Reporter:
    """Adds results to the summary, the log file and the progress bar, and prints problems to stderr."""

    def __init__(self, summary: PretreatmentSummary, log: LogFile):
        self.summary, self.log = summary, log
        self.bar = progress_bar(total=summary.frames, unit="frames", what="pretreatment")

    def add(self, results: list[SequenceResult]) -> None:
        for result in results:
            self._count(result)
            for message in result.unreadable:
                self.problem(result.number, "FAIL", message)
            for frame, reason in result.dropped.items():
                message = f"{result.name}/{frame}: dropped, {reason}: {DROP_REASONS[reason]}"
                self.log.write(result.number, "WARNING", message)
            if result.rejected:
                self.problem(result.number, "FAIL", f"{result.rejected} (the sequence is left out)")
            elif result.kept < MIN_FRAMES:
                frames = counted(result.frames, "frame")
                few = f"only {result.kept} of {frames} can be used"
                none = f"none of {frames} can be used, so the sequence is skipped"
                self.problem(result.number, "WARNING", f"{result.name}: {few if result.kept else none}")
            if result.changed:
                done = f"{result.name}: {counted(result.worked_on, 'frame')} done, {result.kept} kept"
                self.log.write(result.number, "FINISH", done)
            self.bar.update(result.frames)

    def _count(self, result: SequenceResult) -> None:
        summary = self.summary
        summary.done += result.changed
        summary.unchanged += not result.changed
        summary.empty += result.kept == 0
        summary.short += 0 < result.kept < MIN_FRAMES
        summary.kept += result.kept
        reasons = result.dropped_before + Counter(result.dropped.values())
        summary.dropped += reasons.total()
        summary.drop_reasons = dict(Counter(summary.drop_reasons) + reasons)
        summary.unreadable += result.frames if result.rejected else len(result.unreadable)
        notes = [] if result.rejected else result.reading.notes()
        summary.readings = dict(Counter(summary.readings) + Counter(notes))
        summary.frames_worked_on += result.worked_on

    def problem(self, number: int, comment: str, message: str) -> None:
        """Log a problem, add it to the summary, and print it to stderr if it is one of the first MAX_WARNINGS."""
        self.log.write(number, comment, message)
        self.summary.problems.append(message)
        excess = len(self.summary.problems) - MAX_WARNINGS
        if excess <= 1:
            shown = "more problems follow; the log file lists all problems" if excess == 1 else one_line(message)
            self.bar.write(f"warning: {shown}", file=sys.stderr)

    def conclude(self, message: str) -> None:
        """Log the reason why the whole run failed and print it to stderr, even after MAX_WARNINGS problems."""
        self.log.write(0, "FAIL", message)
        self.summary.problems.append(message)
        self.bar.write(f"error: {one_line(message)}", file=sys.stderr)


_ADVICE = {
    "empty": "check the program that segments the silhouettes",
    "too dark": "silhouettes must be white (255) on a black background",
    **dict.fromkeys(("too small", "too thin"), "use images in which the person is larger"),
}


def nothing_kept(summary: PretreatmentSummary) -> str:
    """Return the number of unusable frames for each reason, and advice on the most frequent reason."""
    reasons = Counter(summary.drop_reasons).most_common()
    parts = [f"{count} are {reason} ({DROP_REASONS.get(reason, 'see the log file')})" for reason, count in reasons]
    parts += [f"{summary.unreadable} cannot be read"] * (summary.unreadable > 0)
    advice = _ADVICE.get(reasons[0][0]) if reasons else None
    return ", ".join(parts) + (f"; {advice}" if advice else "")
