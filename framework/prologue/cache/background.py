"""A few threads for what need not, or must not, hold up a caller."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

__all__ = ["Background"]

_logger = logging.getLogger("prologue.cache")


class Background:
    """A bounded pool of daemon threads. No task waits for a thread: who finds none free in time is told so.

    Threads start when they are needed, and end when they are not for a while.

    Args:
        name: of the threads.
        limit: the most threads.
        idle: seconds after which a thread without work ends.
    """

    __slots__ = ("_closed", "_free", "_idle", "_idle_limit", "_limit", "_lock", "_name", "_tasks", "_threads")

    def __init__(self, name: str, limit: int = 32, idle: float = 10.0) -> None:
        self._name = name
        self._limit = limit
        self._idle_limit = idle
        self.start_over()

    def start_over(self) -> None:
        """Forget all threads and tasks, as the child of a fork must."""
        # Invariant: under the lock, _idle is the number of threads that have no task, or rather: of those
        # that no task in the queue is for. So each task in the queue has a thread that takes it at once.
        self._lock = threading.Lock()
        self._free = threading.Condition(self._lock)  # notified when a thread is idle, or ends
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._closed = False
        self._tasks: SimpleQueue[Callable[[], object] | None] = SimpleQueue()

    def try_run(self, task: Callable[[], object], timeout: float = 0.0) -> bool:
        """Run a task on a thread, if one is free in time; return whether it runs. Its errors are logged.

        Args:
            task: what to run.
            timeout: seconds to wait for a thread; a thread of this pool does not wait.
        """
        with self._lock:
            if timeout and threading.current_thread() not in self._threads:
                self._free.wait_for(lambda: self._closed or self._idle or self._has_room, timeout)
            if self._closed:
                return False
            if self._idle:
                self._idle -= 1
            elif self._has_room:
                thread = threading.Thread(target=self._work, name=f"{self._name} background", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # there can be no more threads, or the interpreter is ending
                    return False
                self._threads.add(thread)
            else:
                return False
            self._tasks.put(task)  # under the lock: before what close() puts
        return True

    @property
    def _has_room(self) -> bool:
        return len(self._threads) < self._limit

    def _work(self) -> None:
        while True:
            try:
                task = self._tasks.get(timeout=self._idle_limit)
            except Empty:
                with self._lock:
                    if not self._idle:
                        continue  # a task is on its way
                    self._idle -= 1
                    self._threads.discard(threading.current_thread())
                    self._free.notify()
                return
            if task is None:
                return
            try:
                task()
            except BaseException:
                _logger.exception("background task of cache %r failed", self._name)
            del task
            with self._lock:
                self._idle += 1
                self._free.notify()

    def close(self, timeout: float = 5.0) -> None:
        """Accept no more tasks, and wait for those that run, but no longer than so many seconds."""
        with self._lock:
            self._closed = True
            self._free.notify_all()
            threads = [thread for thread in self._threads if thread is not threading.current_thread()]
        for _ in threads:
            self._tasks.put(None)
        deadline = time.monotonic() + timeout
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if left := sum(thread.is_alive() for thread in threads):
            _logger.warning("cache %r is closed; %d factories in the background still run", self._name, left)
