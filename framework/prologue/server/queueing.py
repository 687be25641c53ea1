"""How long requests wait for a thread: a probe waits in the same queue as they do."""

from __future__ import annotations

import os

__all__ = ["QueueProbe"]


class QueueProbe:
    """A descriptor that is put in the queue of events now and then, and taken out like any other event.

    The main thread sends it, a request thread receives it; of the two each writes its own attributes.

    Attributes:
        delay: seconds that the last probe waited.
    """

    def __init__(self) -> None:
        self.fileno = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.delay = 0.0
        self._sent = 0.0
        self._received = 0.0

    def send(self, now: float) -> None:
        """Put the probe in the queue, unless it is there."""
        if self._received >= self._sent:
            self._sent = now
            os.eventfd_write(self.fileno, 1)

    def receive(self, now: float) -> None:
        """Take the probe out of the queue."""
        try:
            os.eventfd_read(self.fileno)
        except BlockingIOError:
            return
        self.delay = now - self._sent
        self._received = now

    def current(self, now: float) -> float:
        """Return the seconds that the last probe has waited, or the one that still waits."""
        return self.delay if self._received >= self._sent else max(self.delay, now - self._sent)
