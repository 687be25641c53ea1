"""Queries and urlencoded forms: what is sent is what is read, whether anything in it is encoded or not."""

from __future__ import annotations

import io
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from werkzeug.exceptions import ClientDisconnected
from werkzeug.wsgi import get_content_length

from prologue.bodies import BLOCK, body_stream, read_query, read_urlencoded
from prologue.errors import BodyTooLargeError, HTTPError

ALPHABET = ["a", "b", "=", "&", ";", "%", "%41", "%ff", "+", " ", "ж", "[]"]
PIECES = st.lists(st.sampled_from(ALPHABET), max_size=12)


@given(PIECES.map("".join))
@example("")
@example("=")
@example("&a&&b=&=c&d=e=f")
def test_the_short_way_reads_what_the_standard_library_does(text: str) -> None:
    expected = parse_qsl(text, keep_blank_values=True, errors="werkzeug.url_quote")
    query = read_query({"QUERY_STRING": text.encode().decode("latin-1")})
    form = read_urlencoded(io.BytesIO(text.encode()), 1000, 1000)
    assert sorted(query.items(multi=True)) == sorted(form.items(multi=True)) == sorted(expected)
    assert list(query) == list(form) == list(dict(expected))


@given(st.lists(st.tuples(st.text("aж &=%+;\n\0"), st.text("aж &=%+;\n\0")), max_size=4))
def test_what_was_encoded_comes_back(pairs: list[tuple[str, str]]) -> None:
    sent = urlencode(pairs)
    assert sorted(read_query({"QUERY_STRING": sent}).items(multi=True)) == sorted(pairs)
    assert sorted(read_urlencoded(io.BytesIO(sent.encode()), 1000, 1000).items(multi=True)) == sorted(pairs)


def test_limits_hold_to_the_last_byte_and_the_last_field() -> None:
    body = b"a=1&b=2"
    assert len(read_urlencoded(io.BytesIO(body), len(body), 2)) == 2
    with pytest.raises(BodyTooLargeError, match="more than 6 bytes"):
        read_urlencoded(io.BytesIO(body), len(body) - 1, 2)
    with pytest.raises(BodyTooLargeError, match="more than 1 fields"):
        read_urlencoded(io.BytesIO(body), len(body), 1)
    assert len(body_stream({"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": "7"}, 7).read()) == 7
    with pytest.raises(BodyTooLargeError, match="more than 6 bytes"):
        body_stream({"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": "7"}, 6)


def test_a_form_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(HTTPError, match="malformed") as refused:
        read_urlencoded(io.BytesIO(b"a=\xff"), 1000, 1000)
    assert refused.value.status == 400


@pytest.mark.parametrize("coding", [None, "", "chunked", "gzip"])
@pytest.mark.parametrize(
    "text", ["7", "007", "0", "", "+7", "-7", " 7", "7 ", "7,7", "0x7", "7_0", "\u0667", "7" * 19]
)
def test_a_length_is_what_werkzeug_takes_for_one(text: str, coding: str | None) -> None:
    environ = {"CONTENT_LENGTH": text}
    if coding is not None:
        environ["HTTP_TRANSFER_ENCODING"] = coding
    length = (get_content_length(environ) or 0) if text else 0
    body = b"x" * min(length, 99)
    try:
        read = body_stream({**environ, "wsgi.input": io.BytesIO(body + b"y")}, 99).read()
    except BodyTooLargeError:
        assert length > 99
    else:
        assert read == body


class Dripping(io.RawIOBase):
    """A body that comes in pieces, and may end in an error."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = list(pieces)
        self.asked: list[int] = []

    def read(self, size: int = -1, /) -> bytes:
        self.asked.append(size)
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, Exception):
            raise piece
        return piece


def test_a_small_body_is_read_at_once_and_no_byte_behind_it() -> None:
    source = Dripping(b"a=", b"1&", b"b=2")
    environ = {"wsgi.input": source, "CONTENT_LENGTH": "7"}
    assert body_stream(environ, 7, at_once=True).read() == b"a=1&b=2"
    assert source.asked == [7, 5, 3]


@pytest.mark.parametrize("pieces", [(), (b"a=1",), (OSError("gone"),), (b"a=", ValueError("closed"))])
def test_a_small_body_that_is_cut_short_is_the_clients_error(pieces: tuple[bytes | Exception, ...]) -> None:
    with pytest.raises(ClientDisconnected):
        body_stream({"wsgi.input": Dripping(*pieces), "CONTENT_LENGTH": "7"}, 7, at_once=True)


def test_a_large_body_is_not_read_before_it_is_asked_for() -> None:
    source = Dripping()
    body_stream({"wsgi.input": source, "CONTENT_LENGTH": str(BLOCK + 1)}, 2 * BLOCK, at_once=True)
    body_stream({"wsgi.input": source, "CONTENT_LENGTH": "7"}, 7)
    assert source.asked == []
