"""A cache in Redis: one server, one watched over by Sentinel, or a cluster."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prologue.cache.breaker import CircuitBreaker
from prologue.cache.codec import Codec
from prologue.cache.entry import NEVER, Entry
from prologue.cache.options import CacheOptions, Duration, seconds
from prologue.cache.remote import Found, RemoteCache, new_generation
from prologue.errors import CacheOptionError, CacheUnavailableError, CodecError, MissingExtraError
from prologue.lifecycle import abandon

if TYPE_CHECKING:
    from prologue.cache.redis_nodes import Client, Command, RedisNodes, Subscription

__all__ = ["RedisCache"]

_GENERATIONS = 10
"""After so many new generations within one operation something else is wrong."""

_KEY_LIMIT = 512
"""Keys that are longer are stored as digests: Redis takes them, and every process sends them each time."""

# Store an entry if the key still holds what was found: key; what was found, new payload, milliseconds or 0.
_SWAP = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[3] == '0' then redis.call('SET', KEYS[1], ARGV[2])
else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
"""

# Take a lock: its key, the key of its fencing number; token, milliseconds. The number is the server's time in
# microseconds, or the next after the last: it grows even if the server loses all, or its clock goes back.
_ACQUIRE = """
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return false end
local time = redis.call('TIME')
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
local fence = string.format('%.0f', math.max(time[1] * 1000000 + time[2], last + 1))
redis.call('SET', KEYS[2], fence, 'PX', 86400000 + ARGV[2])
return fence
"""

_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""


class RedisCache(RemoteCache):
    """A cache in Redis 5 or later. See :class:`CacheBackend` for its methods.

    Values are stored as :class:`Codec` says. ``clear()`` begins a new generation of the namespace, which is
    done at once: entries of the old one go as their times end, or as Redis makes room. So let entries end.

    While Redis does not answer, reading is a miss. After some failures in a row it is left alone, and one
    operation at a time tries whether it is back; meanwhile a read costs microseconds.

    Connections are opened on first use, one for each thread that needs one at the same time.

    Args:
        server: ``redis://``, ``rediss://`` or ``unix://`` URL; a ``redis.Redis`` or ``redis.RedisCluster``
            client, of which the settings are used; or a function that returns a client, called on first use
            in each process, such as ``lambda: Sentinel(addresses).master_for("main", socket_timeout=0.5)``.
            Give clients time limits of their own, and no retries.
        namespace: keeps caches in one Redis apart: letters, digits, ``_``, ``.`` and ``-``.
        version: of the values' shape: another version sees none of this one's values.
        codec: how values become bytes. Default ``Codec()``: no pickle, no compression, no signature.
        timeout: the longest to wait for a reply, where the server is a URL. Default 0.5 s.
        connect_timeout: the longest to connect, where the server is a URL. Default 0.5 s.
        failures: after how many failures in a row Redis is left alone. Default 3.
        retry_after: for how long, before one operation tries again. Default 1 s.
        on_undecodable: called with the key and the error for a value that cannot be read; it is a miss.
        name: for messages and statistics. Default: the namespace.
        options: the defaults for all entries.
        clock: the monotonic clock, in seconds.

    Raises:
        CacheOptionError: the URL, the namespace or a number makes no sense.
        MissingExtraError: redis-py is not installed.
    """

    def __init__(
        self,
        server: str | Client | Callable[[], Client],
        *,
        namespace: str = "cache",
        version: int = 1,
        codec: Codec | None = None,
        timeout: Duration = 0.5,
        connect_timeout: Duration = 0.5,
        failures: int = 3,
        retry_after: Duration = 1.0,
        on_undecodable: Callable[[str, CodecError], object] | None = None,
        name: str | None = None,
        options: CacheOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        try:
            import redis
        except ImportError as error:
            raise MissingExtraError("RedisCache", "redis") from error
        breaker = CircuitBreaker(failures, seconds(retry_after, "retry_after"), clock=clock)
        if isinstance(server, str):
            try:
                redis.ConnectionPool.from_url(server)
            except ValueError as error:  # without the URL: it may hold a password
                raise CacheOptionError(f"the URL of a Redis cannot be read: {error}") from None
        # Invariant: _nodes is set under the lock, once in a process.
        self._nodes_lock = threading.Lock()
        self._nodes: RedisNodes | None = None
        super().__init__(
            namespace=namespace,
            version=version,
            key_limit=_KEY_LIMIT,
            breakers=[breaker],
            codec=codec,
            on_undecodable=on_undecodable,
            name=name,
            options=options,
            clock=clock,
        )
        self._breaker = breaker
        # Of the namespace, as last seen: every use finds out whether it is current.
        self._generation: int | None = None
        self._server = server
        self._timeout = seconds(timeout, "timeout")
        self._connect_timeout = seconds(connect_timeout, "connect_timeout")
        if not self._timeout or not self._connect_timeout:
            raise CacheOptionError("timeout and connect_timeout must be more than 0: Redis may hang")

    # -- exchanges ---------------------------------------------------------------------------------

    def _execute(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one round trip; return the replies.

        Raises:
            CacheUnavailableError: Redis does not answer, or refuses one of the commands.
        """
        with self._reaching_store(self._breaker):
            replies = self._open_nodes().execute(commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise CacheUnavailableError(
                    f"Redis refuses an operation of cache {self.name!r}: {reply}"
                ) from reply
        return replies

    def _open_nodes(self) -> RedisNodes:
        if self._nodes is None:
            from prologue.cache.redis_nodes import connect_nodes

            with self._nodes_lock:
                if self._nodes is None:
                    self._nodes = connect_nodes(self._server, self._timeout, self._connect_timeout)
        return self._nodes

    def _at_generation(self, commands: Callable[[int], Sequence[Command]]) -> tuple[int, list[Any]]:
        """Execute commands on keys of the current generation; return it, and their replies.

        The generation is asked for in the same round trip. Only if another one began since it was last seen,
        the commands are executed again with the right keys; what they did to the old ones nobody can see.
        """
        for _ in range(_GENERATIONS):
            generation = self._generation
            asked = () if generation is None else commands(generation)
            current, *replies = self._execute([("GET", self._generation_key), *asked])
            if current is None:
                self._execute([("SET", self._generation_key, new_generation(), "NX")])
            elif generation is not None and self._integer(current) == generation:
                return generation, replies
            else:
                self._generation = self._integer(current)
        raise CacheUnavailableError(
            f"cache {self.name!r} is cleared all the time, or its Redis forgets at once"
        )

    def _integer(self, reply: Any) -> int:
        try:
            return int(reply)
        except (TypeError, ValueError) as error:
            raise CacheUnavailableError(
                f"Redis keeps no number for cache {self.name!r}, but {reply!r}: use another namespace"
            ) from error

    # -- the primitives ----------------------------------------------------------------------------

    def _read(self, key: str) -> Entry | None:
        return self._find(key).entry

    def _read_many(self, keys: Sequence[str]) -> dict[str, Entry]:
        generation, replies = self._at_generation(
            lambda generation: [command for key in keys for command in self._reading(key, generation)]
        )
        found: dict[str, Entry] = {}
        for key, payload, life in zip(keys, replies[::2], replies[1::2], strict=True):
            entry = self._entry_of(key, generation, payload, life)
            if entry is not None:
                found[key] = entry
        return found

    def _reading(self, key: str, generation: int) -> tuple[Command, Command]:
        stored_key = self._keys.encode(key, generation)
        return ("GET", stored_key), ("PTTL", stored_key)

    def _entry_of(self, key: str, generation: int, payload: Any, life: Any) -> Entry | None:
        if payload is None:
            return None
        remaining = life / 1000 if isinstance(life, int) and life >= 0 else None
        return self._entry(key, self._keys.encode(key, generation), payload, remaining)

    def _write_many(self, entries: Mapping[str, Entry]) -> None:
        self._at_generation(
            lambda generation: [self._writing(key, generation, entry) for key, entry in entries.items()]
        )

    def _writing(self, key: str, generation: int, entry: Entry) -> Command:
        stored_key = self._keys.encode(key, generation)
        payload = self._payload(key, stored_key, entry)
        life = self._milliseconds(entry)
        return ("SET", stored_key, payload, "PX", life) if life else ("SET", stored_key, payload)

    def _milliseconds(self, entry: Entry) -> int:
        """Return how long Redis keeps the entry; 0: for ever."""
        if entry.stale_until == NEVER:
            return 0
        return max(1, math.ceil((entry.stale_until - self.clock()) * 1000))

    def _find(self, key: str) -> Found:
        generation, (payload, life) = self._at_generation(lambda generation: self._reading(key, generation))
        return Found(self._entry_of(key, generation, payload, life), (generation, payload))

    def _swap(self, key: str, found: Found, entry: Entry) -> bool:
        generation, payload = found.token
        if payload is None:
            return self._execute([(*self._writing(key, generation, entry), "NX")]) != [None]
        stored_key = self._keys.encode(key, generation)
        new, life = self._payload(key, stored_key, entry), self._milliseconds(entry)
        return self._execute([("EVAL", _SWAP, 1, stored_key, payload, new, life)]) == [1]

    def _remove(self, key: str) -> bool:
        return self._remove_many([key]) > 0

    def _remove_many(self, keys: Sequence[str]) -> int:
        _, removed = self._at_generation(
            lambda generation: [("DEL", self._keys.encode(key, generation)) for key in keys]
        )
        return sum(removed)

    def _clear(self) -> None:
        self._execute([("SET", self._generation_key, new_generation())])

    def _generations(self, tags: Sequence[str]) -> tuple[int, ...]:
        keys = [self._keys.reserved(f"tag:{tag}") for tag in tags]
        replies = self._execute([("GET", key) for key in keys])
        if None in replies:
            missing = [key for key, reply in zip(keys, replies, strict=True) if reply is None]
            self._execute([("SET", key, new_generation(), "NX") for key in missing])
            replies = self._execute([("GET", key) for key in keys])
        return tuple(map(self._integer, replies))

    def _invalidate(self, tags: Sequence[str]) -> None:
        self._execute([("SET", self._keys.reserved(f"tag:{tag}"), new_generation()) for tag in tags])

    # In a cluster what is between the first braces says where a key is: both keys of a lock are in one place.

    def _lock_key(self, name: str) -> bytes:
        return b"{%b}" % self._keys.reserved(name)

    def _acquire(self, name: str, token: str, ttl: float) -> int | None:
        key = self._lock_key(name)
        life = max(1, math.ceil(ttl * 1000))
        (fence,) = self._execute([("EVAL", _ACQUIRE, 2, key, key + b":fence", token, life)])
        return None if fence is None else self._integer(fence)

    def _release(self, name: str, token: str) -> bool:
        return self._execute([("EVAL", _RELEASE, 1, self._lock_key(name), token)]) == [1]

    # -- messages between the processes that use the namespace -------------------------------------

    def publish(self, message: bytes) -> None:
        """Send a message to every process that listens with :meth:`subscribe`.

        Raises:
            CacheUnavailableError: Redis does not answer.
            CacheClosedError: the cache is closed.
        """
        self._execute([("PUBLISH", self._keys.reserved("messages"), message)])

    def subscribe(self) -> Subscription:
        """Return a connection of its own that hears the messages.

        Raises:
            Exception: what redis-py raises when Redis does not answer.
        """
        from prologue.cache.redis_nodes import Subscription

        return Subscription(self._open_nodes().open_connection(), self._keys.reserved("messages"))

    # -- the end -----------------------------------------------------------------------------------

    def _close(self) -> None:
        if self._nodes is not None:
            self._nodes.close()

    def _after_fork(self) -> None:
        super()._after_fork()
        self._nodes_lock = threading.Lock()
        if self._nodes is not None:
            abandon(self._nodes)
            self._nodes = None
