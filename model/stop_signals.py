"""Being told to stop: SIGTERM and Ctrl-C."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType


class StopSignals:
    """Turns the first SIGTERM or Ctrl-C into a flag, so that the iteration in work ends; the second interrupts."""

    def __init__(self) -> None:
        self.received: int | None = None

    def __enter__(self) -> StopSignals:
        self.before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number
