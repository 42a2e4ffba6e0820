"""The wish to stop, as a signal handler may say it: in the middle of anything, a wait for it included."""

import contextlib
import queue
import signal
from collections.abc import Callable, Iterable


class Stop:
    """What `threading.Event` is, but for its lock, which a handler that interrupts a wait would wait for in vain.

    One thread waits.
    """

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[None] = queue.SimpleQueue()  # its put is safe inside itself

    def set(self) -> None:
        """Ask for the end."""
        self._asked.put(None)

    def is_set(self) -> bool:
        """Whether the end was asked for."""
        return not self._asked.empty()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for at most `timeout` seconds; None: without end. True: the end was asked for."""
        with contextlib.suppress(queue.Empty):
            self._asked.put(self._asked.get(timeout=timeout))  # it stays asked for
        return self.is_set()


def on_stop_signals(
    stop: Callable[[], None],
    numbers: Iterable[signal.Signals] = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
) -> None:
    """From now on these signals call `stop`, in the main thread and in the middle of anything."""
    for number in numbers:
        signal.signal(number, lambda *_: stop())
