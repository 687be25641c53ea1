"""Locks that every user of a store shares."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from prologue.cache.options import Duration, seconds
from prologue.errors import CacheLockError, CacheOptionError, CacheTimeoutError

if TYPE_CHECKING:
    from prologue.cache.base import CacheBackend

__all__ = ["CacheLock"]

_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 0.1


class CacheLock:
    """A lock with an end: whoever holds it longer than its ttl has lost it, and another may hold it.

    What must not be done twice is therefore done with the :attr:`fence`: the receiver refuses a number that
    is smaller than one it has seen. One object is for one thread, for one time.

    Attributes:
        name: what is locked.
        fence: while held, a number greater than that of every earlier holder; else ``None``.
    """

    __slots__ = ("_cache", "_timeout", "_token", "_ttl", "fence", "name")

    def __init__(
        self, cache: CacheBackend, name: str, token: str, ttl: Duration, timeout: Duration | None
    ) -> None:
        self._cache = cache
        self._token = token
        self._ttl = seconds(ttl, "ttl of a lock")
        if not self._ttl:
            raise CacheOptionError("the ttl of a lock must be more than 0: its holder may die")
        self._timeout = None if timeout is None else seconds(timeout, "timeout")
        self.name = name
        self.fence: int | None = None

    def try_acquire(self) -> bool:
        """Take the lock if it is free; return whether it is held now.

        Raises:
            CacheUnavailableError: the store does not answer.
        """
        self.fence = self._cache._acquire(f"lock:{self.name}", self._token, self._ttl)
        return self.fence is not None

    def acquire(self) -> int:
        """Wait for the lock, and return its fencing number.

        Raises:
            CacheTimeoutError: the timeout is over.
            CacheUnavailableError: the store does not answer.
        """
        started = time.monotonic()
        pause = _FIRST_PAUSE
        while not self.try_acquire():
            waited = time.monotonic() - started
            if self._timeout is not None and waited >= self._timeout:
                raise CacheTimeoutError(
                    f"lock {self.name!r} of cache {self._cache.name!r} is taken: waited {waited:.2f} s"
                )
            rest = _LONGEST_PAUSE if self._timeout is None else self._timeout - waited
            time.sleep(min(pause * random.uniform(0.5, 1), rest))
            pause = min(pause * 2, _LONGEST_PAUSE)
        assert self.fence is not None
        return self.fence

    def release(self) -> None:
        """Give the lock back.

        Raises:
            CacheLockError: it is not held any more: its ttl was over, or it was never acquired.
            CacheUnavailableError: the store does not answer; the lock ends with its ttl.
        """
        self.fence = None
        if not self._cache._release(f"lock:{self.name}", self._token):
            raise CacheLockError(
                f"lock {self.name!r} of cache {self._cache.name!r} is not held: "
                f"what it protects may take longer than its ttl of {self._ttl} s"
            )

    def __enter__(self) -> CacheLock:
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        try:
            self.release()
        except CacheLockError:
            if kind is None:  # an error of the caller's own says more
                raise
