"""Stop a training run cleanly on SIGTERM or Ctrl-C."""

import signal
from types import FrameType


class StopSignals:
    """Context manager that records the first SIGTERM or Ctrl-C, so that the current iteration ends normally.

    A second signal raises KeyboardInterrupt.

    Args:
        ignore_second: whether to ignore the second signal. Under torchrun every worker receives Ctrl-C twice, from the
            terminal and from torchrun, so the second signal must not interrupt.
    """

    def __init__(self, ignore_second: bool = False) -> None:
        self.ignore_second = ignore_second
        self.received: int | None = None

    def __enter__(self) -> "StopSignals":
        self.previous = {number: signal.signal(number, self._record) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.previous.items():
            if signal.getsignal(number) == self._record:  # `survive_to_report` may have replaced this handler
                signal.signal(number, handler)

    def _record(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and not self.ignore_second:
            raise KeyboardInterrupt
        self.received = self.received or number
