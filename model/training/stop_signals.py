"""Being told to stop: SIGTERM and Ctrl-C."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType


class StopSignals:
    """Turns the first SIGTERM or Ctrl-C into a flag, so that the iteration in work ends; the second interrupts.

    final: it does not. Where torchrun passes on a Ctrl-C, which processes that it started had from the terminal
    already, the second is the same one again.
    """

    def __init__(self, final: bool = False) -> None:
        self.final = final
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
        if self.received is not None and not self.final:
            raise KeyboardInterrupt
        self.received = self.received or number
