from __future__ import annotations

from datetime import date
from uuid import UUID

import pytest

from prologue.errors import RouteError
from prologue.routing import Converter, TrieRouter
from prologue.routing.converters import (
    BUILTIN_CONVERTERS,
    MAX_DIGITS,
    parse_date,
    parse_float,
    parse_int,
    parse_uuid,
)

UUID_TEXT = "01234567-89ab-cdef-0123-456789abcdef"

HOSTILE_DIGITS = [
    "",
    "9" * (MAX_DIGITS + 1),
    "9" * 5000,
    "9" * 100_000,
    "0" * 5000,
    "+1",
    "-1",
    "1_0",
    "٣",
    "²",
    "１",
    "1２",
    "۴",
    " 1",
    "1 ",
    "1\n",
    "\t1",
    "0x1",
    "0b1",
    "1e3",
    "1E3",
    "1,0",
    "1.",
    ".1",
    "1..0",
    "1.0.0",
    "nan",
    "inf",
    "-0",
    "Infinity",
    "1\x00",
    "１.０",
    "1.٣",
]


@pytest.mark.parametrize("text", HOSTILE_DIGITS)
@pytest.mark.parametrize("name", ["int", "float"])
def test_a_number_takes_ascii_digits_only_and_not_many(name: str, text: str) -> None:
    router = TrieRouter()
    router.add_route(f"/{{number:{name}}}", "whole")
    router.add_route(f"/a/v{{number:{name}}}", "affixed")

    assert router.find_route("GET", f"/{text}") is None
    assert router.find_route("GET", f"/a/v{text}") is None


@pytest.mark.parametrize("text", ["1.0", "1.5"])
def test_an_int_takes_no_fraction(text: str) -> None:
    with pytest.raises(ValueError, match=text):
        parse_int(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("7", 7), ("007", 7), ("9" * MAX_DIGITS, 10**MAX_DIGITS - 1), (str(2**64 - 1), 2**64 - 1)],
)
def test_an_int_is_up_to_twenty_digits(text: str, value: int) -> None:
    assert parse_int(text) == value
    assert type(parse_int(text)) is int


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0.0),
        ("7", 7.0),
        ("1.5", 1.5),
        ("007.250", 7.25),
        ("9" * 20, 1e20),
        ("0." + "1" * 20, 0.1111111111111111),
    ],
)
def test_a_float_is_digits_with_or_without_a_fraction(text: str, value: float) -> None:
    assert parse_float(text) == value
    assert type(parse_float(text)) is float


@pytest.mark.parametrize("text", ["0." + "1" * 21, "1" * 21 + ".0"])
def test_both_parts_of_a_float_are_bounded(text: str) -> None:
    with pytest.raises(ValueError, match=text):
        parse_float(text)


@pytest.mark.parametrize("text", [UUID_TEXT, UUID_TEXT.upper()])
def test_a_uuid_is_36_characters_in_either_case(text: str) -> None:
    assert parse_uuid(text) == UUID(UUID_TEXT)


@pytest.mark.parametrize(
    "text",
    [
        "",
        UUID_TEXT.replace("-", ""),
        f"{{{UUID_TEXT}}}",
        f"urn:uuid:{UUID_TEXT}",
        UUID_TEXT + "0",
        UUID_TEXT[:-1],
        UUID_TEXT + "\n",
        " " + UUID_TEXT,
        UUID_TEXT.replace("f", "g"),
        UUID_TEXT.replace("0", "٠"),
        UUID_TEXT.replace("a", "ａ"),
        "0123456-789ab-cdef-0123-456789abcdef",
        "01234567-89ab-cdef-01234-56789abcdef",
    ],
)
def test_what_is_no_uuid_is_no_match(text: str) -> None:
    with pytest.raises(ValueError, match=r"\A"):
        parse_uuid(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("2024-02-29", date(2024, 2, 29)), ("0001-01-01", date(1, 1, 1)), ("9999-12-31", date(9999, 12, 31))],
)
def test_a_date_is_year_month_and_day(text: str, value: date) -> None:
    assert parse_date(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2023-02-29",
        "2024-13-01",
        "2024-00-01",
        "2024-01-00",
        "2024-01-32",
        "0000-01-01",
        "2024-1-1",
        "24-01-01",
        "20240101",
        "2024-W01-1",
        "2024-01-01T00:00",
        "2024-01-01\n",
        " 2024-01-01",
        "2024/01/01",
        "٢٠٢٤-01-01",
        "12024-01-01",
        "-024-01-01",
    ],
)
def test_what_is_no_date_is_no_match(text: str) -> None:
    with pytest.raises(ValueError, match=r"\A"):
        parse_date(text)


@pytest.mark.parametrize("name", ["", "1a", "a-b", "a b", "a:b", "тип", "a\n", "{a}"])
def test_a_converter_has_a_plain_name(name: str) -> None:
    with pytest.raises(RouteError, match="must be letters, digits and underscores") as caught:
        Converter(name, str)

    assert repr(name) in str(caught.value)


def test_the_built_in_converters_write_what_they_read() -> None:
    texts = {"int": "12", "float": "1.5", "uuid": UUID_TEXT, "date": "2024-02-29"}

    assert {converter.name for converter in BUILTIN_CONVERTERS} == set(texts)
    for converter in BUILTIN_CONVERTERS:
        assert converter.format(converter.parse(texts[converter.name])) == texts[converter.name]


def test_a_converter_shows_its_name() -> None:
    assert repr(Converter("slug", str)) == "<Converter 'slug'>"
