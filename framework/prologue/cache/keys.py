"""Keys of a shared store: two different keys of two users of the store are never the same bytes."""

from __future__ import annotations

import re
from hashlib import blake2b

from prologue.errors import CacheOptionError

__all__ = ["KeyEncoder"]

_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_PLAIN = re.compile(rb"[!-~]+")
_DIGEST_SIZE = 20


class KeyEncoder:
    """Encode keys of any content and length for a store, within a namespace and its version.

    A key of visible ASCII characters stays readable after ``=``; any other, and one that is too long, is the
    BLAKE2b digest (160 bits) of its UTF-8 after ``#``. So the encoding is injective, up to a collision of the
    digest, and an encoded key never holds what a protocol could read as the end of a key.

    Args:
        namespace: keeps caches in one store apart: letters, digits, ``_``, ``.`` and ``-``.
        version: of the values' shape; another version sees none of this one's values.
        limit: the longest key of the store, in bytes; Memcached's is 250.

    Raises:
        CacheOptionError: the namespace is empty or holds another character, or is too long for the limit.
    """

    __slots__ = ("_limit", "_prefix")

    def __init__(self, namespace: str, version: int = 1, limit: int = 250) -> None:
        if not _NAME.fullmatch(namespace):
            raise CacheOptionError(f"namespace {namespace!r} must be letters, digits, '_', '.' or '-'")
        self._prefix = f"{namespace}:{version:d}:".encode()
        self._limit = limit
        if len(self.encode("\n", 10**18)) > limit:
            raise CacheOptionError(f"namespace {namespace!r} is too long for keys of {limit} bytes")

    def encode(self, key: str, generation: int = 0) -> bytes:
        """Return the bytes for a key of a generation; ``clear()`` begins a new generation.

        Raises:
            TypeError: the key is not a str.
        """
        if not isinstance(key, str):
            raise TypeError(f"a cache key is a str, not {key!r}")
        prefix = b"%b%d:" % (self._prefix, generation)
        raw = key.encode("utf-8", "surrogatepass")
        if _PLAIN.fullmatch(raw) and len(prefix) + 1 + len(raw) <= self._limit:
            return b"%b=%b" % (prefix, raw)
        return b"%b#%b" % (prefix, blake2b(raw, digest_size=_DIGEST_SIZE).hexdigest().encode())

    def reserved(self, name: str) -> bytes:
        """Return the bytes for something of the cache's own, such as ``"generation"``; no key equals them."""
        raw = name.encode("utf-8", "surrogatepass")
        if _PLAIN.fullmatch(raw) and len(self._prefix) + 1 + len(raw) <= self._limit:
            return b"%b@%b" % (self._prefix, raw)
        return b"%b@#%b" % (self._prefix, blake2b(raw, digest_size=_DIGEST_SIZE).hexdigest().encode())
