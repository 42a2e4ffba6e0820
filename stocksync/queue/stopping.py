"""The wish to stop, as a signal handler may say it: in the middle of anything, a wait for it included."""

import contextlib
import queue


class Stop:
    """What `threading.Event` is, but for its lock, which a handler that interrupts a wait would wait for in vain.

    One thread waits.
    """

    def __init__(self) -> None:
        self._asked = False
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()  # its put is safe inside itself

    def set(self) -> None:
        """Ask for the end."""
        self._asked = True
        self._bell.put(None)

    def is_set(self) -> bool:
        """Whether the end was asked for."""
        return self._asked

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for at most `timeout` seconds; None: without end. True: the end was asked for."""
        if not self._asked:
            with contextlib.suppress(queue.Empty):
                self._bell.get(timeout=timeout)
        return self._asked
