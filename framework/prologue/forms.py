"""Multipart forms: read in blocks, within limits, refused when malformed; and the parser of all forms.

A limit is checked before what it limits is held: the parts, the bytes of all fields together, and the
headers of each part. werkzeug's decoder finds the parts; what it would let pass in their headers is
refused here. Files are bounded by the body alone, and are on disk when they are large.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from werkzeug.datastructures import FileStorage, Headers, MultiDict
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Field, File, MultipartDecoder, NeedData, State

from prologue.bodies import BLOCK, check_memory, check_parts, read_urlencoded
from prologue.errors import HTTPError

__all__ = ["FormParser"]

#: Bytes that the headers of one part may have; browsers send some 200.
_MAX_PART_HEADERS = 8 * 1024

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_HEADER_NAME = re.compile(_TOKEN)
_HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
# RFC 7578 section 4.2.
_FORM_DATA = re.compile(r"form-data[ \t]*", re.IGNORECASE)
_PARAMETER = re.compile(rf';[ \t]*({_TOKEN})=({_TOKEN}|"(?:[^"\\]|\\.)*")[ \t]*', re.DOTALL)

Parsed = tuple[IO[bytes], MultiDict[str, str], MultiDict[str, FileStorage]]


class FormParser(FormDataParser):
    """Parse the form of one request; :class:`prologue.request.Request` makes and calls it.

    Raises:
        HTTPError: 400, the form is malformed.
        BodyTooLargeError: 413, it is over a limit.
    """

    # The request always has them.
    max_form_memory_size: int
    max_form_parts: int

    def parse(
        self,
        stream: IO[bytes],
        mimetype: str,
        content_length: int | None,
        options: dict[str, str] | None = None,
    ) -> Parsed:
        """Return the stream, the fields and the files; no fields and no files when it is no form."""
        try:
            if mimetype == "multipart/form-data":
                return stream, *self._multipart(stream, (options or {}).get("boundary", ""))
            if mimetype == "application/x-www-form-urlencoded":
                fields = read_urlencoded(stream, self.max_form_memory_size, self.max_form_parts)
                return stream, fields, MultiDict()
        except ValueError as error:
            raise HTTPError(400, "the form is malformed") from error
        return stream, MultiDict(), MultiDict()

    def _multipart(
        self, stream: IO[bytes], boundary: str
    ) -> tuple[MultiDict[str, str], MultiDict[str, FileStorage]]:
        if not 1 <= len(boundary) <= 70:
            raise ValueError("a boundary has 1 to 70 characters")  # RFC 2046 section 5.1.1
        fields: list[tuple[str, str]] = []
        files: list[tuple[str, FileStorage]] = []
        part: Field | File | None = None
        text: list[bytes] = []
        held = 0
        try:
            for event in _events(stream, boundary.encode("ascii")):
                if isinstance(event, Data):
                    if isinstance(part, File):
                        files[-1][1].stream.write(event.data)
                        if not event.more_data:
                            files[-1][1].stream.seek(0)
                        continue
                    held += len(event.data)
                    check_memory(held, self.max_form_memory_size)
                    text.append(event.data)
                    if not event.more_data and part is not None:
                        fields.append((part.name, b"".join(text).decode("utf-8", "replace")))
                        text = []
                    continue
                part = event
                check_parts(len(fields) + len(files) + 1, self.max_form_parts)
                _check_headers(part.headers)
                held += len(part.name)
                if isinstance(part, File):
                    file = self.stream_factory(None, None, part.filename, None)
                    storage = FileStorage(file, part.filename, part.name, headers=part.headers)
                    files.append((part.name, storage))
        except BaseException:
            for _, storage in files:
                storage.close()
            raise
        return MultiDict(fields), MultiDict(files)


def _events(stream: IO[bytes], boundary: bytes) -> Iterator[Field | File | Data]:
    """Yield the parts of a form and their data; what follows the last part is not read."""
    decoder = MultipartDecoder(boundary)
    while True:
        # No more data makes the decoder raise ValueError: the last boundary is missing.
        decoder.receive_data(stream.read(BLOCK) or None)
        while not isinstance(event := decoder.next_event(), NeedData):
            if isinstance(event, (Field, File, Data)):
                yield event
        if decoder.state is State.EPILOGUE:
            return
        # Data does not stay in the decoder, only headers and a preamble do.
        if len(decoder.buffer) > _MAX_PART_HEADERS:
            raise ValueError("the headers of a part are too long")


def _check_headers(headers: Headers) -> None:
    """Check the headers of a part.

    Raises:
        ValueError: they are too long, hold control characters, or do not name one field.
    """
    if sum(len(name) + len(value) for name, value in headers) > _MAX_PART_HEADERS:
        raise ValueError("the headers of a part are too long")
    for name, value in headers:
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError("a header of a part is malformed")
    dispositions = headers.getlist("Content-Disposition")
    if len(dispositions) != 1:
        raise ValueError("a part has one Content-Disposition")
    disposition = dispositions[0]
    start = _FORM_DATA.match(disposition)
    position = start.end() if start else 0
    names = []
    while parameter := _PARAMETER.match(disposition, position):
        names.append(parameter[1].lower())
        position = parameter.end()
    if start is None or disposition[position:].strip("; \t") or len(set(names)) != len(names):
        raise ValueError("a Content-Disposition is malformed")
    if "name" not in parse_options_header(disposition)[1]:
        raise ValueError("a part has no name")
