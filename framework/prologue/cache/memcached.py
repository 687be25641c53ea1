"""A cache in Memcached: one server, or several that share the keys."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

from prologue.cache.breaker import CircuitBreaker
from prologue.cache.codec import Codec
from prologue.cache.connections import Connections
from prologue.cache.entry import NEVER, Entry
from prologue.cache.options import CacheOptions, Duration, seconds
from prologue.cache.remote import Found, RemoteCache, new_generation
from prologue.errors import (
    CacheOptionError,
    CacheUnavailableError,
    CacheValueError,
    CodecError,
    MissingExtraError,
)

__all__ = ["MemcachedCache"]

_KEY_LIMIT = 250
_LONGEST_RELATIVE = 30 * 24 * 60 * 60
"""Memcached reads more seconds than that as a date."""
_LATEST = 2**31 - 1
"""The last date that Memcached reads."""
_AT_ONCE = -1
"""A time to live that is over."""
_GENERATIONS = 10
"""After so many new generations within one operation something else is wrong."""


class _Server:
    """One server: its connections, its breaker, and the generation of the namespace there, as last seen."""

    __slots__ = ("breaker", "connections", "generation", "name", "salt")

    def __init__(self, name: str, connections: Connections[Any], breaker: CircuitBreaker) -> None:
        self.name = name
        self.salt = blake2b(name.encode(), digest_size=16).digest()
        self.connections = connections
        self.breaker = breaker
        self.generation: int | None = None


class MemcachedCache(RemoteCache):
    """A cache in Memcached. See :class:`CacheBackend` for its methods.

    Several servers share the keys by rendezvous hashing: when one is added or taken away, only the keys that
    go to it or come from it change their place. Give every process the same names of the same servers. While
    a server does not answer, its keys are misses; after some failures in a row it is left alone for a while.

    Values are stored as :class:`Codec` says. ``clear()`` begins a new generation of the namespace on every
    server. Time in Memcached passes in whole seconds: a lock that nobody releases may last up to two longer.

    Args:
        servers: ``"host:port"``, ``"[::1]:port"``, or the path of a socket.
        namespace: keeps caches in one Memcached apart: letters, digits, ``_``, ``.`` and ``-``.
        version: of the values' shape: another version sees none of this one's values.
        codec: how values become bytes. Default ``Codec()``: no pickle, no compression, no signature.
        timeout: the longest to wait for a part of a reply. Default 0.5 s.
        connect_timeout: the longest to connect. Default 0.5 s.
        failures: after how many failures in a row a server is left alone. Default 3.
        retry_after: for how long, before one operation tries again. Default 1 s.
        on_undecodable: called with the key and the error for a value that cannot be read; it is a miss.
        name: for messages and statistics. Default: the namespace.
        options: the defaults for all entries.
        clock: the monotonic clock, in seconds.

    Raises:
        CacheOptionError: no server, an address twice or one that cannot be read, or a number that makes no
            sense.
        MissingExtraError: pymemcache is not installed.
    """

    def __init__(
        self,
        *servers: str,
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
        limits = seconds(connect_timeout, "connect_timeout"), seconds(timeout, "timeout")
        if not all(limits):
            raise CacheOptionError("timeout and connect_timeout must be more than 0: Memcached may hang")
        if not servers or len(set(servers)) < len(servers):
            raise CacheOptionError(f"Memcached servers {servers!r}: give each server once, and at least one")
        self._servers = [
            _Server(
                server,
                _connections(server, *limits),
                CircuitBreaker(failures, seconds(retry_after, "retry_after"), clock=clock),
            )
            for server in servers
        ]
        super().__init__(
            namespace=namespace,
            version=version,
            key_limit=_KEY_LIMIT,
            breakers=[server.breaker for server in self._servers],
            codec=codec,
            on_undecodable=on_undecodable,
            name=name,
            options=options,
            clock=clock,
        )

    # -- exchanges ---------------------------------------------------------------------------------

    @contextmanager
    def _client(self, server: _Server) -> Iterator[Any]:
        """Lend a client of pymemcache for one exchange."""
        with self._reaching_store(server.breaker):
            with server.connections.lend() as client:
                yield client

    def _server_of(self, key: bytes | str) -> _Server:
        """Return the server of a key, whatever its generation."""
        if len(self._servers) == 1:
            return self._servers[0]
        raw = key if isinstance(key, bytes) else key.encode("utf-8", "surrogatepass")
        return max(self._servers, key=lambda server: blake2b(raw, key=server.salt, digest_size=8).digest())

    def _fetch(self, server: _Server, keys: Sequence[str]) -> tuple[int, dict[str, tuple[bytes, Any]]]:
        """Return the current generation, and the payloads of keys with numbers for a compare-and-swap.

        The generation is asked for in the same round trip; only if another one began since it was last seen,
        the keys of the new one are asked for again.
        """
        for _ in range(_GENERATIONS):
            generation = server.generation
            stored = {} if generation is None else {self._keys.encode(key, generation): key for key in keys}
            with self._client(server) as client:
                found = client.gets_many([self._generation_key, *stored])
            current = found.pop(self._generation_key, None)
            if current is None:
                self._create(server, self._generation_key)
            elif generation is not None and self._integer(current[0]) == generation:
                return generation, {stored[stored_key]: payload for stored_key, payload in found.items()}
            else:
                server.generation = self._integer(current[0])
        raise CacheUnavailableError(
            f"cache {self.name!r} is cleared all the time, or {server.name} forgets at once"
        )

    def _create(self, server: _Server, key: bytes) -> None:
        """Give a namespace or a tag its first generation, unless another has just done so."""
        with self._client(server) as client:
            client.add(key, b"%d" % new_generation(), noreply=False)

    def _integer(self, stored: bytes) -> int:
        try:
            return int(stored)
        except ValueError as error:
            raise CacheUnavailableError(
                f"Memcached keeps no number for cache {self.name!r}, but {stored!r}: use another namespace"
            ) from error

    def _life(self, entry: Entry) -> int:
        """Return the time to live for Memcached; the end that the payload holds is more precise."""
        return 0 if entry.stale_until == NEVER else _exptime(entry.stale_until - self.clock())

    @contextmanager
    def _naming_large(self, keys: Sequence[str], payloads: Mapping[bytes, bytes]) -> Iterator[None]:
        """Turn Memcached's refusal of a large value in the block into an error that names it."""
        from pymemcache.exceptions import MemcacheServerError

        try:
            yield
        except MemcacheServerError as error:
            if b"too large" not in b"".join(map(_to_bytes, error.args)):
                raise
            size = max(map(len, payloads.values()))
            raise CacheValueError(
                f"cache {self.name!r}, key {' or '.join(map(repr, keys))}: a value of {size} bytes is over"
                " the limit of the Memcached server: store less, compress, or raise its -I"
            ) from error

    # -- the primitives ----------------------------------------------------------------------------

    def _read(self, key: str) -> Entry | None:
        return self._read_many([key]).get(key)

    def _read_many(self, keys: Sequence[str]) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}

        def read(server: _Server, share: Sequence[str]) -> None:
            generation, found = self._fetch(server, share)
            for key, (payload, _) in found.items():
                entry = self._entry(key, self._keys.encode(key, generation), payload)
                if entry is not None:
                    entries[key] = entry

        try:
            self._on_each_server(keys, read)
        except CacheUnavailableError:
            if not entries:
                raise
            self.counters.errors += 1
        return entries

    def _on_each_server(self, keys: Iterable[str], operation: Callable[[_Server, list[str]], object]) -> None:
        """Do something with the keys of each server, even if another server fails; then raise its error."""
        shares: dict[_Server, list[str]] = {}
        for key in keys:
            shares.setdefault(self._server_of(key), []).append(key)
        failed: CacheUnavailableError | None = None
        for server, share in shares.items():
            try:
                operation(server, share)
            except CacheUnavailableError as error:
                failed = error
        if failed is not None:
            raise failed

    def _write_many(self, entries: Mapping[str, Entry]) -> None:
        def write(server: _Server, share: Sequence[str]) -> None:
            generation, _ = self._fetch(server, ())
            by_life: dict[int, dict[bytes, bytes]] = {}
            for key in share:
                stored_key = self._keys.encode(key, generation)
                payloads = by_life.setdefault(self._life(entries[key]), {})
                payloads[stored_key] = self._payload(key, stored_key, entries[key])
            for life, payloads in by_life.items():
                with self._client(server) as client:
                    with self._naming_large(share, payloads):
                        client.set_many(payloads, expire=life, noreply=False)

        self._on_each_server(entries, write)

    def _find(self, key: str) -> Found:
        server = self._server_of(key)
        generation, found = self._fetch(server, [key])
        if not found:
            return Found(None, (generation, None))
        payload, token = found[key]
        return Found(self._entry(key, self._keys.encode(key, generation), payload), (generation, token))

    def _swap(self, key: str, found: Found, entry: Entry) -> bool:
        generation, token = found.token
        stored_key = self._keys.encode(key, generation)
        payload, life = self._payload(key, stored_key, entry), self._life(entry)
        with self._client(self._server_of(key)) as client:
            with self._naming_large([key], {stored_key: payload}):
                if token is None:
                    return bool(client.add(stored_key, payload, expire=life, noreply=False))
                return bool(client.cas(stored_key, payload, token, expire=life, noreply=False))

    def _remove(self, key: str) -> bool:
        return self._remove_many([key]) > 0

    def _remove_many(self, keys: Sequence[str]) -> int:
        removed = 0

        def remove(server: _Server, share: Sequence[str]) -> None:
            nonlocal removed
            generation, _ = self._fetch(server, ())
            with self._client(server) as client:
                for key in share:
                    removed += bool(client.delete(self._keys.encode(key, generation), noreply=False))

        self._on_each_server(keys, remove)
        return removed

    def _clear(self) -> None:
        failed: CacheUnavailableError | None = None
        for server in self._servers:
            try:
                with self._client(server) as client:
                    client.set(self._generation_key, b"%d" % new_generation(), noreply=False)
            except CacheUnavailableError as error:
                failed = error
        if failed is not None:
            raise failed

    def _generations(self, tags: Sequence[str]) -> tuple[int, ...]:
        return tuple(self._generation_of(self._keys.reserved(f"tag:{tag}")) for tag in tags)

    def _generation_of(self, key: bytes) -> int:
        server = self._server_of(key)
        for _ in range(_GENERATIONS):
            with self._client(server) as client:
                stored = client.get(key)
            if stored is not None:
                return self._integer(stored)
            self._create(server, key)
        raise CacheUnavailableError(
            f"cache {self.name!r}: {server.name} forgets the generation of a tag at once"
        )

    def _invalidate(self, tags: Sequence[str]) -> None:
        for tag in tags:
            key = self._keys.reserved(f"tag:{tag}")
            with self._client(self._server_of(key)) as client:
                client.set(key, b"%d" % new_generation(), noreply=False)

    def _acquire(self, name: str, token: str, ttl: float) -> int | None:
        key = self._keys.reserved(name)
        fence_key = self._keys.reserved(f"fence:{name}")
        with self._client(self._server_of(key)) as client:
            if not client.add(key, token.encode(), expire=_exptime(ttl), noreply=False):
                return None
            fence = client.incr(fence_key, 1, noreply=False)
            while fence is None:
                # From the time, so that the numbers grow even if the server loses all.
                client.add(fence_key, b"%d" % (time.time() * 1_000_000), noreply=False)
                fence = client.incr(fence_key, 1, noreply=False)
            # The number is ours only if we still hold the lock: otherwise it may be greater than that of a
            # later holder, who took its number before.
            held = client.get(key) == token.encode()
        return int(fence) if held else None

    def _release(self, name: str, token: str) -> bool:
        key = self._keys.reserved(name)
        with self._client(self._server_of(key)) as client:
            held, cas = client.gets(key)
            if held != token.encode():
                return False
            return bool(client.cas(key, b"", cas, expire=_AT_ONCE, noreply=False))

    def _close(self) -> None:
        for server in self._servers:
            server.connections.close()


def _connections(server: str, connect_timeout: float, timeout: float) -> Connections[Any]:
    try:
        from pymemcache.client.base import Client, normalize_server_spec
    except ImportError as error:
        raise MissingExtraError("MemcachedCache", "memcached") from error
    try:
        address = normalize_server_spec(server)
    except ValueError as error:
        raise CacheOptionError(
            f"Memcached server {server!r}: write host:port, or the path of a socket"
        ) from error

    def connect() -> Any:
        # It connects with its first command, which is within the exchange.
        return Client(address, connect_timeout=connect_timeout, timeout=timeout, no_delay=True)

    return Connections(connect, lambda client: client.close(), lambda client: client.sock)


def _exptime(life: float) -> int:
    """Return seconds as Memcached takes them.

    It counts full seconds, and may end an entry up to one too early: it is told one more.
    """
    whole = max(math.ceil(life), 0) + 1
    if whole > _LONGEST_RELATIVE:
        whole = min(whole + int(time.time()), _LATEST)
    return whole


def _to_bytes(part: object) -> bytes:
    return part if isinstance(part, bytes) else str(part).encode()
