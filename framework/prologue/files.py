"""Files as responses: validators, ranges, and the server's own way of sending a file.

The file is opened once and everything is decided from that descriptor; it is served only when it is a
regular file inside its directory, links resolved.

PERF: ``email.utils`` and ``mimetypes`` are imported where they are used, see :mod:`prologue.response`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from io import FileIO
from typing import Any

from prologue.response import BINARY, Headers, Response, content_disposition

__all__ = ["FileBody", "file_response"]

_BLOCK = 64 * 1024

# Not blocking: a FIFO without a writer would hold the thread.
_FILE_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
# O_PATH needs no right to list the directory; not every system has it.
_DIRECTORY_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# RFC 9110 section 14.2, one range; several are answered with the whole file, as the RFC allows.
_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))")
# RFC 9110 section 8.8.3.
_ENTITY_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


class FileBody:
    """A part of an open file as a response body.

    Iterating reads it in blocks; ``read`` and ``fileno`` let ``wsgi.file_wrapper`` send it. The file's
    offset stands at the first byte. ``close`` closes the file, then calls ``on_close``.
    """

    __slots__ = ("_file", "_left", "on_close")

    def __init__(self, file: FileIO, start: int, length: int) -> None:
        file.seek(start)
        self._file = file
        self._left = length
        self.on_close: Callable[[], object] | None = None

    def __iter__(self) -> Iterator[bytes]:
        while block := self.read(_BLOCK):
            yield block

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, ``size`` at the most, none behind the end of the part."""
        block = self._file.read(self._left if size < 0 else min(size, self._left)) or b""
        self._left -= len(block)
        return block

    def fileno(self) -> int:
        """Return the descriptor, for sendfile; the length is in the response's Content-Length."""
        return self._file.fileno()

    def close(self) -> None:
        """Close the file, then run ``on_close``; once."""
        on_close, self.on_close = self.on_close, None
        try:
            self._file.close()
        finally:
            if on_close is not None:
                on_close()


def file_response(
    environ: Mapping[str, Any],
    file_name: str | os.PathLike[str],
    directory: str | os.PathLike[str] = "",
    *,
    mimetype: str = "",
    download_name: str = "",
    charset: str = "utf-8",
    headers: Mapping[str, str] | None = None,
) -> Response | None:
    """Return the response that serves a file to a request, or None when there is no such file.

    Conditional requests (RFC 9110 section 13) and one range (section 14) are answered; HEAD reads nothing.

    Args:
        environ: the request.
        file_name: path of the file, below ``directory`` when that is given.
        directory: nothing outside of it is served, whatever ``file_name`` says; empty trusts ``file_name``.
        mimetype: the media type; default by the extension.
        download_name: makes the browser save the file under this name.
        charset: of text types; default UTF-8.
        headers: more header fields.

    Raises:
        HeaderError: a header may not be sent.
    """
    import mimetypes
    from email.utils import formatdate

    method = environ.get("REQUEST_METHOD", "GET")
    opened = _open_file(os.fspath(directory), os.fspath(file_name))
    if opened is None:
        return None
    file, path = opened
    response: Response | None = None
    try:
        info = os.fstat(file.fileno())
        guessed, encoding = mimetypes.guess_type(path)
        media_type = mimetype or (BINARY if encoding else guessed) or BINARY
        if media_type.startswith("text/") and "charset=" not in media_type:
            media_type += f"; charset={charset}"
        etag = f'"{info.st_mtime_ns:x}-{info.st_size:x}"'
        fields = Headers(headers or {})
        fields["Content-Type"] = media_type
        fields["ETag"] = etag
        fields["Last-Modified"] = formatdate(info.st_mtime, usegmt=True)
        fields["Accept-Ranges"] = "bytes"
        if download_name:
            fields["Content-Disposition"] = content_disposition(download_name)
        status, start, length = _decide(environ, etag, int(info.st_mtime), info.st_size)
        if status == 416:
            fields["Content-Range"] = f"bytes */{info.st_size}"
        elif status == 206:
            fields["Content-Range"] = f"bytes {start}-{start + length - 1}/{info.st_size}"
        response = Response(b"", status, fields, None)
        if status in (200, 206):
            fields["Content-Length"] = str(length)
            if method != "HEAD":
                response.stream = FileBody(file, start, length)
        return response
    finally:
        if response is None or response.stream is None:
            file.close()


def _open_file(directory: str, name: str) -> tuple[FileIO, str] | None:
    """Open a regular file and return it with its real path, or None when there is none in the directory."""
    try:
        if not directory:
            path = os.path.realpath(name)
            descriptor = os.open(path, _FILE_FLAGS)
        elif name.startswith("/") or ".." in name.split("/"):
            return None
        else:
            root = os.path.realpath(directory)
            path = os.path.realpath(os.path.join(root, name))
            if os.path.commonpath((root, path)) != root:
                return None
            descriptor = _open_below(root, os.path.relpath(path, root).split(os.sep))
    except (OSError, ValueError):
        # ValueError: the name holds what no name of a file can, such as NUL.
        return None
    # Before it becomes a FileIO, which would not close the descriptor of a directory.
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return FileIO(descriptor, "r"), path


def _open_below(root: str, names: list[str]) -> int:
    """Open a file below a directory, following no link: a resolved path has none.

    SECURITY: one directory after the other, each from the descriptor of the one before, so that it makes no
    difference when a part of the path is swapped for a link after it was resolved.
    """
    descriptor = os.open(root, _DIRECTORY_FLAGS)
    try:
        for name in names[:-1]:
            inner = os.open(name, _DIRECTORY_FLAGS, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        return os.open(names[-1], _FILE_FLAGS, dir_fd=descriptor)
    finally:
        os.close(descriptor)


def _decide(environ: Mapping[str, Any], etag: str, modified: int, size: int) -> tuple[int, int, int]:
    """Return status, first byte and length (RFC 9110 section 13.2.2, in its order)."""
    if_match = environ.get("HTTP_IF_MATCH")
    if if_match is not None:
        if if_match.strip() != "*" and etag not in _strong_tags(if_match):
            return 412, 0, 0
    elif (since := _date(environ.get("HTTP_IF_UNMODIFIED_SINCE"))) is not None and modified > since:
        return 412, 0, 0
    if_none_match = environ.get("HTTP_IF_NONE_MATCH")
    if if_none_match is not None:
        if if_none_match.strip() == "*" or etag in _ENTITY_TAG.findall(if_none_match):
            return 304, 0, 0
    elif (since := _date(environ.get("HTTP_IF_MODIFIED_SINCE"))) is not None and modified <= since:
        return 304, 0, 0
    wanted = environ.get("HTTP_RANGE")
    if wanted is None or environ.get("REQUEST_METHOD") != "GET":
        return 200, 0, size
    if_range = environ.get("HTTP_IF_RANGE")
    if if_range is not None and if_range.strip() != etag and _date(if_range) != modified:
        return 200, 0, size
    found = _RANGE.fullmatch(wanted.strip())
    if found is None:
        return 200, 0, size
    first, last, suffix = found.groups()
    start = max(0, size - int(suffix)) if suffix else int(first)
    end = min(size - 1, int(last)) if last else size - 1
    if last and int(last) < int(first):
        return 200, 0, size
    if start >= size or (suffix and int(suffix) == 0):
        return 416, 0, 0
    return 206, start, end - start + 1


def _strong_tags(field: str) -> list[str]:
    return [found.group() for found in _ENTITY_TAG.finditer(field) if not found.group().startswith("W/")]


def _date(field: str | None) -> int | None:
    if not field:
        return None
    from email.utils import parsedate_to_datetime

    try:
        return int(parsedate_to_datetime(field).timestamp())
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
