"""From a value to the bytes that a shared store keeps, and back, without running anything on the way.

A payload is a header of three bytes (magic, version, flags), the code of authenticity if the codec has keys,
and a body: the value in MessagePack, compressed if that pays. What MessagePack cannot tell apart (a tuple
from a list, a Decimal from a str) travels in extension types.

* What cannot be read is a :class:`CodecError`: another program's bytes, a newer version, a forged or damaged
  payload, one too large, a type that nobody registered. It is never another value, and never code.
* Pickle is there for those who ask for it *and* have a secret key; nothing is unpickled before its code of
  authenticity was found right.
* A codec has no state that changes: any number of threads may use it, before and after a fork.
"""

from __future__ import annotations

import dataclasses
import enum
import hmac
import pickle
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec.msgpack import Ext

from prologue.errors import CodecError, SettingsError

__all__ = ["Codec"]

_MAGIC: Final = 0xA7
_VERSION: Final = 1
_HEADER_BYTES: Final = 3
_MAC_BYTES: Final = 32
_COMPRESSED, _SIGNED, _PICKLED = 1, 2, 4
_MIN_KEY_BYTES: Final = 16

# Numbers of the extension types: they are in stored payloads, so that none may ever change its meaning.
_TUPLE, _SET, _FROZENSET, _PAIRS, _INT, _STR, _DATETIME, _DATE, _TIME, _TIMEDELTA, _DECIMAL, _UUID = range(
    1, 13
)
_REGISTERED: Final = 64

_PLAIN: Final = frozenset({str, bytes, int, float, bool, type(None)})
"""Types that MessagePack gives back as they are."""

_pack = msgspec.msgpack.Encoder().encode


def _ascii(data: memoryview) -> str:
    return str(data, "ascii")


def _pack_timedelta(value: timedelta) -> bytes:
    return _pack([value.days, value.seconds, value.microseconds])


_PACK: Final[Mapping[type, tuple[int, Callable[[Any], bytes]]]] = {
    datetime: (_DATETIME, lambda value: value.isoformat().encode()),
    date: (_DATE, lambda value: value.isoformat().encode()),
    time: (_TIME, lambda value: value.isoformat().encode()),
    timedelta: (_TIMEDELTA, _pack_timedelta),
    Decimal: (_DECIMAL, lambda value: str(value).encode()),
    UUID: (_UUID, lambda value: value.bytes),
}

_UNPACK: Final[Mapping[int, Callable[[memoryview], Any]]] = {
    _INT: lambda data: int.from_bytes(data, "big", signed=True),
    _STR: lambda data: str(data, "utf-8", "surrogatepass"),
    _DATETIME: lambda data: datetime.fromisoformat(_ascii(data)),
    _DATE: lambda data: date.fromisoformat(_ascii(data)),
    _TIME: lambda data: time.fromisoformat(_ascii(data)),
    _TIMEDELTA: lambda data: timedelta(*msgspec.msgpack.decode(data, type=tuple[int, int, int])),
    _DECIMAL: lambda data: Decimal(_ascii(data)),
    _UUID: lambda data: UUID(bytes=bytes(data)),
}


class Codec:
    """Turn values into payloads for a shared store, and payloads into the same values again.

    It knows str, bytes, int of any size, float, bool, ``None``, list, tuple, set, frozenset, dict with keys
    of any of these types, datetime, date, time, timedelta, Decimal, UUID, and the types that are registered.
    A datetime keeps its offset from UTC and loses the name of its zone, and with it the fold. Subclasses are
    refused, but for registered ones: a payload does not lose a type silently.

    Args:
        types: ``msgspec.Struct`` types, dataclasses and enumerations that may be stored. They are packed by
            their annotations and checked against them when they are read: after a change of a type its old
            payloads are misses, if they do not fit. A mapping gives the names to store, by default the module
            and the qualified name.
        compress_over: compress bodies of more than so many bytes; ``None`` never does.
        max_bytes: the largest body, in bytes, before compression and after decompression.
        secret_keys: keys of 16 bytes or more for a code of authenticity (HMAC-SHA256), bound to the key of
            the entry. The first signs, all verify: put a new one first, and remove the old one later. With
            keys, payloads without a code of authenticity are refused.
        allow_pickle: pickle values of other types, and unpickle them.

    Raises:
        SettingsError: ``allow_pickle`` without a secret key, a short key, a limit that is not positive, a
            type that cannot be registered, or two with one name.
    """

    __slots__ = (
        "_allow_pickle",
        "_compress_over",
        "_decoders",
        "_keys",
        "_max_bytes",
        "_names",
        "_unpack_ext",
    )

    def __init__(
        self,
        *,
        types: Iterable[type] | Mapping[str, type] = (),
        compress_over: int | None = None,
        max_bytes: int = 16 * 1024 * 1024,
        secret_keys: Sequence[bytes | str] = (),
        allow_pickle: bool = False,
    ) -> None:
        if isinstance(secret_keys, bytes | str):
            raise SettingsError("secret_keys of a codec is one key: give a list of keys")
        keys = tuple(key.encode() if isinstance(key, str) else key for key in secret_keys)
        if any(len(key) < _MIN_KEY_BYTES for key in keys):
            raise SettingsError(
                f"a secret key of a codec is short: use {_MIN_KEY_BYTES} random bytes or more"
            )
        if allow_pickle and not keys:
            raise SettingsError(
                "a codec that allows pickle needs secret_keys: who can write into the store could run code"
            )
        if max_bytes <= 0 or (compress_over is not None and compress_over < 0):
            raise SettingsError(
                f"max_bytes={max_bytes!r}, compress_over={compress_over!r} of a codec: give positive numbers"
            )
        named = types if isinstance(types, Mapping) else _name_each(types)
        self._decoders = {name: _decoder_of(cls) for name, cls in named.items()}
        self._names = {cls: name for name, cls in named.items()}
        self._compress_over = compress_over
        self._max_bytes = max_bytes
        self._keys = keys
        self._allow_pickle = allow_pickle

    def encode(self, value: object, key: bytes = b"") -> bytes:
        """Return the payload of a value.

        Args:
            value: the value.
            key: the full key of the entry, with its namespace; a code of authenticity holds for it alone.

        Raises:
            CodecError: a type that is not registered, nesting too deep, or a body of more than ``max_bytes``.
        """
        flags = 0
        try:
            body = self._pack(value)
        except CodecError:
            if not self._allow_pickle:
                raise
            flags, body = _PICKLED, _pickle(value)
        if len(body) > self._max_bytes:
            raise CodecError(
                f"a value of {len(body)} bytes is over the codec's max_bytes of {self._max_bytes}:"
                " store less, or raise the limit"
            )
        if self._compress_over is not None and len(body) > self._compress_over:
            packed = zlib.compress(body, 1)
            if len(packed) < len(body):
                flags, body = flags | _COMPRESSED, packed
        if not self._keys:
            return bytes((_MAGIC, _VERSION, flags)) + body
        header = bytes((_MAGIC, _VERSION, flags | _SIGNED))
        return header + _authenticate(self._keys[0], header, key, body) + body

    def decode(self, payload: bytes, key: bytes = b"") -> Any:
        """Return the value of a payload.

        Args:
            payload: what :meth:`encode` returned, or anything else that was found in the store.
            key: the full key of the entry.

        Raises:
            CodecError: it is not a payload of this version, was changed, is of another key, is too large, or
                holds a type that is not registered. Nothing else is raised, whatever the bytes are.
        """
        if len(payload) < _HEADER_BYTES or payload[0] != _MAGIC:
            raise CodecError("the payload was not written by a codec")
        if payload[1] != _VERSION:
            raise CodecError(f"the payload is of version {payload[1]}, this codec reads version {_VERSION}")
        flags = payload[2]
        body = self._verified(payload, key)
        try:
            if flags & _COMPRESSED:
                body = self._inflate(body)
            if flags & _PICKLED:
                return self._unpickle(body)
            return msgspec.msgpack.decode(body, ext_hook=self._unpack_extension)
        except CodecError:
            raise
        except Exception as error:
            # Any of a dozen types, RecursionError among them: a payload is not trusted, and a poisoned one is
            # a miss.
            raise CodecError(f"the payload cannot be decoded: {type(error).__name__}: {error}") from error

    def _verified(self, payload: bytes, key: bytes) -> bytes | memoryview:
        header, flags = payload[:_HEADER_BYTES], payload[2]
        if not self._keys:
            if flags & (_SIGNED | _PICKLED):
                raise CodecError("the payload is signed, or a pickle, and the codec has no secret_keys")
            return memoryview(payload)[_HEADER_BYTES:]
        if not flags & _SIGNED:
            raise CodecError("the payload is not signed")
        mac = payload[_HEADER_BYTES : _HEADER_BYTES + _MAC_BYTES]
        body = payload[_HEADER_BYTES + _MAC_BYTES :]
        for secret in self._keys:
            if hmac.compare_digest(mac, _authenticate(secret, header, key, body)):
                return body
        raise CodecError("the payload was changed, is of another key, or was signed with another secret")

    def _inflate(self, body: bytes | memoryview) -> bytes:
        inflater = zlib.decompressobj()
        inflated = inflater.decompress(body, self._max_bytes + 1)
        if len(inflated) > self._max_bytes or not inflater.eof or inflater.unused_data:
            raise CodecError(
                f"the payload is damaged, or inflates to more than the codec's max_bytes of {self._max_bytes}"
            )
        return inflated

    def _unpickle(self, body: bytes | memoryview) -> Any:
        if not self._allow_pickle:
            raise CodecError("the payload is a pickle: this codec does not allow it")
        return pickle.loads(body)

    # Packing

    def _pack(self, value: object) -> bytes:
        try:
            # PERF: plain data go to the packer as they are. What it refuses, numbers past 64 bits and lone
            # surrogates, is so rare that it is looked for only then.
            return _pack(self._prepare(value, False))
        except (OverflowError, UnicodeEncodeError):
            pass
        except RecursionError as error:
            raise CodecError("the value is nested too deeply to be stored, or holds itself") from error
        return _pack(self._prepare(value, True))

    def _prepare(self, value: Any, with_odd: bool) -> Any:
        """Return the value with all that MessagePack would not give back as it is in extension types.

        Args:
            value: any value.
            with_odd: whether it may hold numbers and strings that MessagePack does not know.
        """
        kind = type(value)
        if kind in _PLAIN:
            return _wrap_odd(value) if with_odd else value
        if kind is list:
            return self._prepare_items(value, with_odd)
        if kind is dict:
            return self._prepare_dict(value, with_odd)
        if kind is tuple:
            return Ext(_TUPLE, _pack(self._prepare_items(value, with_odd)))
        if kind is set or kind is frozenset:
            return Ext(_SET if kind is set else _FROZENSET, _pack(self._prepare_items(list(value), with_odd)))
        packer = _PACK.get(kind)
        if packer is not None:
            return Ext(packer[0], packer[1](value))
        name = self._names.get(kind)
        if name is None:
            raise CodecError(
                f"a value of type {_name_of(kind)} cannot be stored: give the type to the codec,"
                " Codec(types=[...]), or convert the value"
            )
        return Ext(_REGISTERED, _pack_registered(name, value))

    def _prepare_items(self, items: Any, with_odd: bool) -> Any:
        if not with_odd and _PLAIN.issuperset(map(type, items)):
            return items
        return [self._prepare(item, with_odd) for item in items]

    def _prepare_dict(self, value: dict[Any, Any], with_odd: bool) -> Any:
        if not with_odd and _PLAIN.issuperset(map(type, value)):
            if _PLAIN.issuperset(map(type, value.values())):
                return value
            return {key: self._prepare(item, False) for key, item in value.items()}
        flat = [self._prepare(part, with_odd) for pair in value.items() for part in pair]
        return Ext(_PAIRS, _pack(flat))

    # Unpacking

    def _unpack_extension(self, code: int, data: memoryview) -> Any:
        unpack = _UNPACK.get(code)
        if unpack is not None:
            return unpack(data)
        if code == _REGISTERED:
            return self._unpack_registered(data)
        items = msgspec.msgpack.decode(data, type=list[Any], ext_hook=self._unpack_extension)
        if code == _TUPLE:
            return tuple(items)
        if code == _SET:
            return set(items)
        if code == _FROZENSET:
            return frozenset(items)
        if code == _PAIRS:
            return dict(zip(items[::2], items[1::2], strict=True))
        raise CodecError(f"the payload has extension type {code}, which this codec does not know")

    def _unpack_registered(self, data: memoryview) -> Any:
        start = 2 + int.from_bytes(data[:2], "big")
        name = str(data[2:start], "utf-8")
        decoder = self._decoders.get(name)
        if decoder is None:
            raise CodecError(f"the payload holds a {name!r}, which is not registered with this codec")
        return decoder.decode(data[start:])


def _wrap_odd(value: Any) -> Any:
    """Return a number past 64 bits, or a string with a lone surrogate, as an extension type."""
    if type(value) is int and not -(2**63) <= value < 2**64:
        return Ext(_INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
    if type(value) is str and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return Ext(_STR, value.encode("utf-8", "surrogatepass"))
    return value


def _pack_registered(name: str, value: object) -> bytes:
    try:
        body = _pack(value)
    except (TypeError, ValueError, OverflowError) as error:  # UnicodeEncodeError is a ValueError
        raise CodecError(f"a {name} cannot be stored: {error}") from error
    encoded = name.encode()
    return len(encoded).to_bytes(2, "big") + encoded + body


def _authenticate(secret: bytes, header: bytes, key: bytes, body: bytes) -> bytes:
    # The length keeps a byte of the key from passing for one of the body.
    return hmac.digest(secret, b"".join((header, len(key).to_bytes(4, "big"), key, body)), "sha256")


def _pickle(value: object) -> bytes:
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # whatever the value's own methods raise
        raise CodecError(f"a value of type {_name_of(type(value))} cannot be pickled: {error}") from error


def _name_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _name_each(types: Iterable[type]) -> dict[str, type]:
    named: dict[str, type] = {}
    for cls in types:
        name = _name_of(cls) if isinstance(cls, type) else repr(cls)
        if named.setdefault(name, cls) is not cls:
            raise SettingsError(
                f"two types of the name {name!r} for a codec: give a mapping of names to types"
            )
    return named


def _decoder_of(cls: type) -> msgspec.msgpack.Decoder[Any]:
    if not (
        isinstance(cls, type)
        and (issubclass(cls, msgspec.Struct | enum.Enum) or dataclasses.is_dataclass(cls))
    ):
        raise SettingsError(
            f"{cls!r} is no msgspec.Struct, dataclass or enumeration: it cannot be registered"
        )
    try:
        return msgspec.msgpack.Decoder(cls)
    except (TypeError, NameError) as error:
        raise SettingsError(f"{_name_of(cls)} cannot be registered with a codec: {error}") from error
