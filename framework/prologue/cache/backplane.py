"""What one process changes, the others hear: messages through Redis that say which keys and tags to drop.

The messages carry no values. What may have been missed, because there was no connection or a message makes no
sense, is taken for everything: all that is local is dropped.
"""

from __future__ import annotations

import logging
import secrets
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from prologue.cache.redis import RedisCache

__all__ = ["Backplane", "Listener"]

_logger = logging.getLogger("prologue.cache")

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
_SILENCE = 2.0
"""Seconds without a message after which the connection is tried; after as many again it is given up."""


class Listener(Protocol):
    """Whose local levels the messages are about."""

    def drop_keys(self, keys: Sequence[str]) -> None:
        """Another process changed these keys."""

    def drop_tags(self, tags: Sequence[str]) -> None:
        """Another process invalidated these tags."""

    def drop_all(self, *, changed: bool) -> None:
        """Another process removed everything, or it is not known what others did.

        Args:
            changed: false only when it begins to listen: what is being made then is not overtaken, lest
                whatever is asked for first be made twice.
        """


class _Message(msgspec.Struct, array_like=True):
    origin: bytes
    keys: list[bytes] = []  # a str of Python may hold what UTF-8 does not
    tags: list[bytes] = []
    everything: bool = False


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Message).decode


class Backplane:
    """Publishes changes through a Redis; hears those of others on a daemon thread with its own connection.

    The thread starts with :meth:`start`, and ends with :meth:`close` or with the listener's life. After a
    fork the child has none until it starts its own.

    Args:
        redis: the cache whose server and namespace are used.
        listener: told what to drop, on the thread of the backplane; kept by a weak reference.
    """

    __slots__ = (
        "__weakref__",
        "_connected",
        "_heard",
        "_listener",
        "_origin",
        "_redis",
        "_stop",
        "_thread",
        "_wake",
    )

    def __init__(self, redis: RedisCache, listener: Listener) -> None:
        self._redis = redis
        self._listener = weakref.ref(listener)
        self.after_fork()

    def after_fork(self) -> None:
        """Be as new, without a thread."""
        self._origin = secrets.token_bytes(8)
        self._stop = threading.Event()
        self._connected = threading.Event()
        self._heard = False  # whether it ever was connected
        self._thread: threading.Thread | None = None
        self._wake: Callable[[], object] | None = None

    def start(self) -> None:
        """Begin to listen. Calling again does nothing; the caller sees to it that two threads do not call."""
        self._thread = threading.Thread(target=self._run, name="prologue-cache-backplane", daemon=True)
        self._thread.start()

    @property
    def started(self) -> bool:
        return self._thread is not None

    @property
    def connected(self) -> bool:
        """Whether messages are heard now."""
        return self._connected.is_set()

    def wait_connected(self, timeout: float) -> bool:
        """Wait until messages are heard; return whether they are."""
        return self._connected.wait(timeout)

    def publish(
        self, *, keys: Sequence[str] = (), tags: Sequence[str] = (), everything: bool = False
    ) -> None:
        """Tell the others.

        Raises:
            CacheUnavailableError: Redis does not answer.
        """
        self._redis.publish(_encode(_Message(self._origin, _to_bytes(keys), _to_bytes(tags), everything)))

    def close(self) -> None:
        """Stop listening, and wait for the thread for a second."""
        self._stop.set()
        wake = self._wake
        if wake is not None:
            wake()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(1.0)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stop.is_set() and self._listener() is not None:
            try:
                subscription = self._redis.subscribe()
            except Exception as error:  # whatever the driver makes of a server that is down
                _logger.debug("backplane of cache %r: %s", self._redis.name, error)
                self._stop.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            pause = _FIRST_PAUSE
            try:
                self._wake = subscription.interrupt
                self._hear(subscription)
            except Exception as error:
                if not self._stop.is_set():
                    _logger.warning("backplane of cache %r lost its connection: %s", self._redis.name, error)
            finally:
                self._connected.clear()
                self._wake = None
                subscription.close()

    def _hear(self, subscription: Any) -> None:
        """Pass messages on until the connection is lost, or nobody listens any more."""
        self._tell(None)  # what was said until now was not heard
        self._heard = True
        self._connected.set()
        tried = False
        while not self._stop.is_set() and self._listener() is not None:
            heard = subscription.receive(_SILENCE)
            if heard is None:
                if tried:
                    raise ConnectionError(f"no answer for {_SILENCE} s")
                subscription.ping()
                tried = True
                continue
            tried = False
            if isinstance(heard, bytes):
                self._tell(heard)

    def _tell(self, message: bytes | None) -> None:
        """Tell the listener, if it is still there, what a message says, or of a gap."""
        listener = self._listener()
        if listener is None:
            return
        try:
            heard = None if message is None else _decode(message)
        except msgspec.MsgspecError:
            heard = None
        if heard is None:
            listener.drop_all(changed=self._heard)
            return
        if heard.origin == self._origin:
            return
        if heard.everything:
            listener.drop_all(changed=True)
        if heard.keys:
            listener.drop_keys(_to_str(heard.keys))
        if heard.tags:
            listener.drop_tags(_to_str(heard.tags))


def _to_bytes(names: Sequence[str]) -> list[bytes]:
    return [name.encode("utf-8", "surrogatepass") for name in names]


def _to_str(names: Sequence[bytes]) -> list[str]:
    return [name.decode("utf-8", "surrogatepass") for name in names]
