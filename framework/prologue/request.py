"""The request: werkzeug's, with this application's limits; bodies and uploads are read when asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec
from werkzeug.datastructures import FileStorage, ImmutableMultiDict, MultiDict
from werkzeug.utils import cached_property, secure_filename
from werkzeug.wrappers import Request as BaseRequest

from prologue.bodies import Limits, body_stream, read_query
from prologue.errors import HTTPError
from prologue.forms import FormParser

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["Limits", "Request", "UploadFile", "safe_name", "valid_host"]

# RFC 3986 section 3.2.2 without user information: a name, an IPv4 or a bracketed IPv6 address, a port.
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")

# Windows opens a device for these, whatever the extension.
_DEVICE = re.compile(r"(?:CON|PRN|AUX|NUL|(?:COM|LPT)[0-9])(?:\.|$)", re.IGNORECASE)
# RFC 9110 section 5.6.2, a token.
_COOKIE_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def valid_host(host: str, trusted: Sequence[str] = ()) -> bool:
    """Return whether a Host field is well formed and, when some are given, one of the trusted hosts.

    Args:
        host: the field, with or without a port.
        trusted: names; one that starts with a dot stands for its subdomains too.
    """
    if not _HOST.fullmatch(host):
        return False
    bare, _, port = host.rpartition(":") if re.search(r":[0-9]+$", host) else (host, "", "")
    if port and not 0 < int(port) < 65536:
        return False
    if not trusted:
        return True
    name = bare.lower().rstrip(".")
    return any(
        name == known or (known.startswith(".") and f".{name}".endswith(known))
        for known in map(str.lower, trusted)
    )


class UploadFile:
    """An uploaded file.

    Attributes:
        filename: the client's name for it, made safe: one component, letters, digits, dots and hyphens.
        raw_filename: the name as it was sent; never use it as a path.
        stream: the open file; large ones are on disk.
        content_type: what the client says it is.
    """

    __slots__ = ("content_type", "filename", "raw_filename", "stream")

    def __init__(self, storage: FileStorage) -> None:
        self.raw_filename = storage.filename or ""
        self.filename = safe_name(self.raw_filename)
        self.stream = storage.stream
        self.content_type = storage.content_type or ""

    def __repr__(self) -> str:
        return f"<UploadFile {self.filename!r}>"

    @property
    def body(self) -> bytes:
        """The whole content, in memory."""
        self.stream.seek(0)
        return self.stream.read()

    def save(self, directory: str | os.PathLike[str], filename: str = "", *, overwrite: bool = False) -> Path:
        """Write the file into a directory.

        Args:
            directory: must exist.
            filename: default the client's, made safe; a given one is made safe too.
            overwrite: replace a file of the name; default False.

        Returns:
            The path written to.

        Raises:
            FileExistsError: there is a file of that name.
            OSError: the directory is missing or cannot be written to.
        """
        path = Path(directory) / (safe_name(filename) if filename else self.filename)
        self.stream.seek(0)
        with path.open("wb" if overwrite else "xb") as target:
            while block := self.stream.read(64 * 1024):
                target.write(block)
        return path


def safe_name(name: str) -> str:
    """Return a file name that is one safe component on every system, of 1 to 121 characters."""
    # SECURITY: cut first, since to normalise a long run of combining characters takes quadratic time.
    base = re.split(r"[/\\]", name)[-1][-255:].encode("utf-8", "replace").decode("utf-8")
    safe = secure_filename(base)
    stem = base.rpartition(".")[0]
    if stem and not secure_filename(stem):
        # A name without a single Latin letter: what is left of it is the extension alone.
        safe = f"upload.{safe}"
    safe = safe[-120:].strip("._")
    if _DEVICE.match(safe):
        safe = f"_{safe}"
    return safe or "upload"


class _StrictJSON:
    """What ``get_json`` decodes with: RFC 8259 in UTF-8 and nothing more."""

    @staticmethod
    def loads(body: bytes) -> Any:
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ValueError(str(error)) from error


class Request(BaseRequest):
    """The request of a Context; everything but the environ is parsed on first use.

    Raises:
        HTTPError: on access; 400 for a malformed part, 413 over a limit (werkzeug's own exceptions for
            these are answered the same way).
    """

    #: Characters of one header field; servers stop at about 8 kB.
    max_field_size = 16 * 1024
    form_data_parser_class = FormParser
    json_module = _StrictJSON  # type: ignore[assignment]  # two functions of it are used
    # A werkzeug request may have no limits; this one always has.
    max_content_length: int = 16 * 1024 * 1024
    max_form_memory_size: int = 500_000
    max_form_parts: int = 1000

    def __init__(
        self, environ: WSGIEnvironment, at_end: Callable[[Callable[[], object]], object] | None = None
    ) -> None:
        """Make a request.

        Args:
            environ: the WSGI environment.
            at_end: takes a function to call at the end of the request; default None: the files of a form
                stay open until they are closed by hand, with ``close``.

        Raises:
            HTTPError: 431, a header field is longer than ``max_field_size``.
        """
        # SECURITY: the standard library's parsing of lists, which werkzeug uses, is linear only where the
        # allocator lets text grow in place.
        for name, value in environ.items():
            if name.startswith("HTTP_") and len(value) > self.max_field_size:
                raise HTTPError(431, f"the header field {name[5:60]} is too long")
        # Not in its own environ: the cycle would wait for the collector.
        super().__init__(environ, populate_request=False)
        self._at_end = at_end

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        # werkzeug's hook for the stream of each uploaded file; on a broken form it is the only trace of it.
        stream = super()._get_file_stream(total_content_length, content_type, filename, content_length)
        if self._at_end is not None:
            self._at_end(stream.close)
        return stream

    def keep_body(self, stream: IO[bytes], form: MultiDict[str, str] | None) -> None:
        """Take over a body that was read before there was a request, and the form that it held, if it did."""
        self.stream = stream
        if form is not None:
            self.__dict__.update(form=form, files=MultiDict())

    def apply_limits(self, body_size: int, form_memory_size: int, form_parts: int) -> None:
        """Set the limits of the body; they hold when it is read."""
        self.max_content_length = body_size
        self.max_form_memory_size = form_memory_size
        self.max_form_parts = form_parts

    @cached_property
    def args(self) -> ImmutableMultiDict[str, str]:
        """The query parameters; at most 1,000 of them, else 400."""
        return read_query(self.environ)

    @cached_property
    def cookies(self) -> ImmutableMultiDict[str, str]:
        """The cookies, in the order they were sent; of equal names the first counts.

        As browsers do (RFC 6265bis section 5.6) a semicolon always ends a cookie, quoted or not, and only
        blanks and tabs around a name are no part of it. What has no name, or one that cannot be set, is
        left out.
        """
        sent = self.environ.get("HTTP_COOKIE", "").encode("latin-1", "replace").decode("utf-8", "replace")
        cookies = []
        for pair in sent.split(";"):
            name, equals, value = pair.partition("=")
            name, value = name.strip(" \t"), value.strip(" \t")
            if equals and _COOKIE_NAME.fullmatch(name):
                quoted = len(value) > 1 and value[0] == value[-1] == '"'
                cookies.append((name, value[1:-1] if quoted else value))
        return ImmutableMultiDict(cookies)

    @cached_property
    def stream(self) -> IO[bytes]:
        """The body to be read once, in blocks; over the limit it raises, and so it does when it is cut short.

        Raises:
            BodyTooLargeError: 413, on access or on reading.
        """
        return body_stream(self.environ, self.max_content_length)

    @cached_property
    def host(self) -> str:
        """The host the client asked for.

        Raises:
            HTTPError: 400, the Host field is malformed.
        """
        sent = self.environ.get("HTTP_HOST")
        if sent is not None and not valid_host(sent):
            raise HTTPError(400, "the Host header is malformed")
        return super().host

    @property
    def secure(self) -> bool:
        """Whether the request came over TLS; the server decides whose forwarded headers count."""
        return bool(self.environ.get("wsgi.url_scheme") == "https")

    def json_body(self) -> bytes:
        """Return the body of a JSON request.

        Raises:
            HTTPError: 415, the content type is not JSON in UTF-8; 400, the body is empty.
        """
        subtype = self.mimetype
        if subtype != "application/json" and not (
            subtype.startswith("application/") and subtype.endswith("+json")
        ):
            given = subtype or "without a type"
            raise HTTPError(415, f"the body must be application/json, not {given}")
        charset = self.mimetype_params.get("charset", "utf-8").lower()
        if charset not in ("utf-8", "utf8", "us-ascii"):
            raise HTTPError(415, f"the JSON must be in UTF-8, not {charset}")
        body = self.get_data(cache=True)
        if not body:
            raise HTTPError(400, "the body is empty where JSON is expected")
        return body
