"""Values come back from a shared store as they went in, and nothing else comes back as a value."""

from __future__ import annotations

import enum
import pickle
import threading
import zlib
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from prologue.cache.codec import Codec
from prologue.errors import CodecError, SettingsError

KEY = b"0123456789abcdef"
OTHER_KEY = b"fedcba9876543210"

ran: list[str] = []


def run() -> None:
    ran.append("code")


class Malicious:
    def __reduce__(self) -> Any:
        return run, ()


class Colour(enum.Enum):
    RED = "red"


class User(msgspec.Struct):
    id: int
    name: str
    born: datetime | None = None
    price: Decimal = Decimal(0)
    colour: Colour = Colour.RED


@dataclass
class Order:
    id: UUID
    lines: tuple[int, ...]
    user: User | None = None
    extra: dict[str, date] = field(default_factory=dict)


class Slotted:
    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Slotted) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]


plain = Codec()
signed = Codec(secret_keys=[KEY])
compressing = Codec(compress_over=0, secret_keys=[KEY])
registered = Codec(types=[User, Order, Colour])

offsets = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.binary()
    | st.datetimes(timezones=st.none() | st.just(UTC) | offsets).map(lambda value: value.replace(fold=0))
    | st.dates()
    | st.times().map(lambda value: value.replace(fold=0))
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
)
keys = atoms | st.tuples(atoms, atoms) | st.frozensets(atoms, max_size=2)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, max_size=4)
    return lists | lists.map(tuple) | st.dictionaries(st.text(), inner, max_size=4)


values = atoms | st.recursive(
    atoms | st.sets(keys, max_size=4) | st.dictionaries(keys, atoms, max_size=4), containers, max_leaves=8
)


relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def same(left: Any, right: Any) -> bool:
    """Equality that tells 1 from True and from 1.0, and a time zone from another."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return len(left) == len(right) and all(map(same, left.items(), right.items()))
    if isinstance(left, set | frozenset):
        return bool(left == right) and sorted(map(repr, left)) == sorted(map(repr, right))
    return bool(left == right) and repr(left) == repr(right)


@relaxed
@given(values)
@example({1: "a", None: b"b", 2.5: [True, 1, 1.0]})
@example([2**64, -(2**63) - 1, 2**63, "\ud800", {"\udfff": 2**200}])
@example(datetime(2026, 10, 25, 2, 30, tzinfo=timezone(timedelta(seconds=3601))))
@example(Decimal("-0.00"))
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    assert same(plain.decode(plain.encode(value)), value)
    assert same(compressing.decode(compressing.encode(value, b"k"), b"k"), value)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), Decimal("NaN"), Decimal("sNaN"), Decimal("-Infinity")]
)
def test_what_is_not_equal_to_itself_comes_back_too(value: Any) -> None:
    assert repr(plain.decode(plain.encode(value))) == repr(value)


def test_registered_types_come_back_inside_other_values() -> None:
    user = User(1, "Ана", datetime(2020, 2, 29), Decimal("1.50"))
    order = Order(UUID(int=5), (1, 2), user, {"paid": date(2026, 1, 1)})
    value = {"users": [user], "orders": (order, Colour.RED)}
    assert same(registered.decode(registered.encode(value)), value)


def test_a_type_has_the_name_that_a_mapping_gives_it() -> None:
    old = Codec(types={"user": User})
    new = Codec(types={"user": msgspec.defstruct("Customer", [("id", int), ("name", str), ("born", Any)])})
    customer = new.decode(old.encode(User(1, "a")))
    assert (type(customer).__name__, customer.id) == ("Customer", 1)


@pytest.mark.parametrize(
    "fields",
    [[("id", str), ("name", str)], [("id", int), ("name", str), ("needed", int)]],
    ids=["type", "new"],
)
def test_a_registered_type_that_changed_makes_its_old_payloads_unreadable(fields: list[Any]) -> None:
    old, new = Codec(types={"user": User}), Codec(types={"user": msgspec.defstruct("User", fields)})
    with pytest.raises(CodecError, match="cannot be decoded"):
        new.decode(old.encode(User(1, "a")))


def test_a_type_that_is_not_registered_cannot_be_read() -> None:
    with pytest.raises(CodecError, match=r"User', which is not registered"):
        plain.decode(registered.encode(User(1, "a")))


@pytest.mark.parametrize(
    "value",
    [object(), OrderedDict(a=1), User(1, "a"), [Colour.RED], {"a": {1j}}, bytearray(b"a"), {Malicious(): 1}],
)
def test_what_cannot_come_back_as_it_was_is_refused_by_name(value: Any) -> None:
    with pytest.raises(CodecError, match=r"a value of type [\w.]+ cannot be stored: give the type"):
        plain.encode(value)


def test_a_field_that_cannot_be_packed_is_refused_by_name() -> None:
    codec = Codec(types={"holder": msgspec.defstruct("Holder", [("value", Any)])})
    holder = codec._decoders["holder"].type
    for value in (object(), 2**70, "\ud800"):
        with pytest.raises(CodecError, match="a holder cannot be stored: "):
            codec.encode(holder(value))


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(CodecError, match="holds itself"):
        plain.encode(value)


# What is found in the store


def forge(body: bytes, flags: int = 0, version: int = 1, magic: int = 0xA7) -> bytes:
    return bytes((magic, version, flags)) + body


BOMB = zlib.compress(b"\xdb\x00\x98\x96\x80" + b"a" * 10_000_000)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "not written by a codec"),
        (b"\xa7\x01", "not written by a codec"),
        (pickle.dumps(Malicious()), "not written by a codec"),
        (b"plain text", "not written by a codec"),
        (forge(b"\xc0", magic=0xA8), "not written by a codec"),
        (forge(b"\xc0", version=2), "version 2, this codec reads version 1"),
        (forge(pickle.dumps(Malicious()), 4), "a pickle"),
        (forge(b"\xc0", 2), "signed"),
        (forge(b""), "cannot be decoded: "),
        (forge(b"\xc0\xc0"), "cannot be decoded: "),
        (forge(b"\xdd\xff\xff\xff\xff"), "cannot be decoded: "),
        (forge(b"\x91" * 100_000), "cannot be decoded: RecursionError"),
        (forge(b"\xc7\x02\x01\x91" * 1), "cannot be decoded: "),
        (forge(b"\xc7\x01\x63\x90"), "extension type 99"),
        (forge(b"\xc7\x02\x04\x91\x01"), "cannot be decoded: ValueError"),
        (forge(b"\xc7\x02\x02\x91\x90"), "cannot be decoded: TypeError"),
        (forge(b"\xc7\x01\x40a"), "not registered"),
        (forge(b"not zlib", 1), "cannot be decoded: error"),
        (forge(zlib.compress(b"\xc0")[:-1], 1), "damaged"),
        (forge(zlib.compress(b"\xc0") + b"x", 1), "damaged"),
        (forge(BOMB, 1), "inflates to more than the codec's max_bytes of 1000000"),
    ],
)
def test_what_is_no_payload_is_an_error_and_never_code(payload: bytes, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        Codec(max_bytes=1_000_000).decode(payload)
    with pytest.raises(CodecError):
        Codec(secret_keys=[KEY], allow_pickle=True).decode(payload)
    assert ran == []


@relaxed
@given(st.binary() | st.binary().map(forge) | st.builds(forge, st.binary(), st.integers(0, 7)))
def test_random_bytes_raise_nothing_but_codec_errors(payload: bytes) -> None:
    for codec in (plain, registered, Codec(secret_keys=[KEY], allow_pickle=True)):
        try:
            codec.decode(payload)
        except CodecError:
            pass


@relaxed
@given(values, st.data())
def test_a_payload_with_one_bit_changed_is_refused(value: Any, data: st.DataObject) -> None:
    payload = bytearray(compressing.encode(value, b"key"))
    bit = data.draw(st.integers(0, len(payload) * 8 - 1))
    payload[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CodecError):
        compressing.decode(bytes(payload), b"key")


@pytest.mark.parametrize("key", [b"other", b"", b"users:1\xa5", b"users:"])
def test_a_payload_of_another_key_is_refused(key: bytes) -> None:
    payload = signed.encode("value", b"users:1")
    assert signed.decode(payload, b"users:1") == "value"
    with pytest.raises(CodecError, match="of another key"):
        signed.decode(payload, key)


def test_a_byte_of_the_key_does_not_pass_for_one_of_the_body() -> None:
    payload = signed.encode(None, b"k\x93\xc0")
    moved = payload[:-1] + b"\x93\xc0" + payload[-1:]
    with pytest.raises(CodecError, match="of another key"):
        signed.decode(moved, b"k")


def test_secrets_rotate() -> None:
    old, both, new = (
        Codec(secret_keys=[KEY]),
        Codec(secret_keys=[OTHER_KEY, KEY]),
        Codec(secret_keys=[OTHER_KEY.decode()]),
    )
    assert both.decode(old.encode(1)) == new.decode(both.encode(1)) == 1
    with pytest.raises(CodecError):
        old.decode(both.encode(1))


def test_signed_and_unsigned_codecs_do_not_read_each_other() -> None:
    with pytest.raises(CodecError, match="is not signed"):
        signed.decode(plain.encode(1))
    with pytest.raises(CodecError, match="no secret_keys"):
        plain.decode(signed.encode(1))


# Compression and limits


def test_only_what_is_large_and_shrinks_is_compressed() -> None:
    codec = Codec(compress_over=100)
    assert len(codec.encode("a" * 5000)) < 100
    assert len(codec.encode("a" * 90)) > 90
    noise = b"".join(number.to_bytes(2, "big") for number in range(0, 65000, 649))
    assert len(codec.encode(noise)) < len(noise) + 10
    for value in ("a" * 5000, "a" * 90, noise):
        assert plain.decode(codec.encode(value)) == value


def test_the_limit_holds_on_both_sides_and_not_one_byte_before() -> None:
    small, large = Codec(max_bytes=102, compress_over=0), Codec(compress_over=0)
    assert small.decode(small.encode("a" * 100)) == "a" * 100  # a header of two bytes
    with pytest.raises(CodecError, match="a value of 103 bytes is over the codec's max_bytes of 102"):
        small.encode("a" * 101)
    with pytest.raises(CodecError, match="inflates to more"):
        small.decode(large.encode("a" * 101))


# Pickle


def test_pickle_is_for_those_who_ask_for_it_with_a_key() -> None:
    codec = Codec(secret_keys=[KEY], allow_pickle=True)
    payload = codec.encode({"a": Slotted(4)}, b"k")
    assert codec.decode(payload, b"k") == {"a": Slotted(4)}
    assert codec.decode(codec.encode([1], b"k"), b"k") == signed.decode(codec.encode([1], b"k"), b"k") == [1]
    with pytest.raises(CodecError, match="does not allow"):
        signed.decode(payload, b"k")
    with pytest.raises(CodecError, match="of another key"):
        codec.decode(payload, b"other")


def test_what_cannot_be_pickled_is_refused_by_name() -> None:
    with pytest.raises(CodecError, match=r"a value of type _thread\.lock cannot be pickled"):
        Codec(secret_keys=[KEY], allow_pickle=True).encode(threading.Lock())


# Construction


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"allow_pickle": True}, "needs secret_keys"),
        ({"secret_keys": [b"short"]}, "a secret key of a codec is short"),
        ({"secret_keys": KEY}, "give a list"),
        ({"max_bytes": 0}, "max_bytes=0"),
        ({"compress_over": -1}, "compress_over=-1"),
        ({"types": [dict]}, "dict'> is no msgspec.Struct"),
        ({"types": [User(1, "a")]}, "cannot be registered"),
        ({"types": [msgspec.defstruct("A", []), msgspec.defstruct("A", [])]}, "two types of the name"),
        ({"types": [msgspec.defstruct("A", [("a", int | User | Order)])]}, "cannot be registered"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Codec(**options)


def test_time_of_day_and_durations_keep_their_parts() -> None:
    value = (time(1, 2, 3, 4), timedelta(days=-1, seconds=5, microseconds=6))
    assert plain.decode(plain.encode(value)) == value
