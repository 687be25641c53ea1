"""The request: werkzeug's, with this application's limits; bodies and uploads are read when asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from werkzeug.datastructures import FileStorage, ImmutableMultiDict, MultiDict
from werkzeug.utils import cached_property, secure_filename
from werkzeug.wrappers import Request as BaseRequest

from prologue.errors import BodyTooLargeError, HTTPError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["Limits", "Request", "UploadFile", "safe_name", "valid_host"]

# RFC 3986 section 3.2.2 without user information: a name, an IPv4 or a bracketed IPv6 address, a port.
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


class Limits(NamedTuple):
    """What a request body may cost; None takes the application's setting."""

    #: Bytes of the whole body.
    body_size: int | None = None
    #: Bytes of form fields (not files) held in memory.
    form_memory_size: int | None = None
    #: Number of fields and files.
    form_parts: int | None = None


def valid_host(host: str, trusted: tuple[str, ...] = ()) -> bool:
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
        name == known.lower() or (known.startswith(".") and (name.endswith(known.lower()) or name == known[1:].lower()))
        for known in trusted
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
    """Return a file name that is one safe component on every system, never empty, 120 characters at the most."""
    base = re.split(r"[/\\]", name)[-1].encode("utf-8", "replace").decode("utf-8")
    safe = secure_filename(base)
    stem = base.rpartition(".")[0]
    if stem and not secure_filename(stem):
        # A name without a single Latin letter: what is left of it is the extension alone.
        safe = f"upload.{safe}"
    safe = safe[-120:].strip("._")
    stem = safe.split(".")[0].upper()
    if re.fullmatch(r"CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9]", stem):
        safe = f"_{safe}"
    return safe or "upload"


class Request(BaseRequest):
    """The request of a Context; everything but the environ is parsed on first use.

    Raises:
        HTTPError: on access; 400 for a malformed part, 413 over a limit (werkzeug's own exceptions for these are
            answered the same way).
    """

    max_query_parameters = 1000

    def __init__(
        self, environ: WSGIEnvironment, at_end: Callable[[Callable[[], object]], object] | None = None
    ) -> None:
        """Make a request.

        Args:
            environ: the WSGI environment.
            at_end: takes a function to call at the end of the request; default None: the files of a form
                stay open until they are closed by hand, with ``close``.
        """
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

    def apply_limits(self, body_size: int, form_memory_size: int, form_parts: int) -> None:
        """Set the limits of the body; they hold when it is read."""
        self.max_content_length = body_size
        self.max_form_memory_size = form_memory_size
        self.max_form_parts = form_parts

    @cached_property
    def args(self) -> MultiDict[str, str]:
        """The query parameters; at most ``max_query_parameters`` of them, else 400."""
        if self.query_string.count(b"&") >= self.max_query_parameters:
            raise HTTPError(400, f"the query has more than {self.max_query_parameters} parameters")
        return super().args

    @cached_property
    def form(self) -> ImmutableMultiDict[str, str]:
        """The form fields of a urlencoded or multipart body, with any method."""
        form = super().form
        parts = self.max_form_parts
        if sum(len(values) for _, values in form.lists()) > parts:
            raise BodyTooLargeError(f"the form has more than {parts} fields (max_form_parts)")
        return form

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
        """Whether the request came over TLS; forwarded headers count only where the server trusts the proxy."""
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
            raise HTTPError(415, f"the body must be application/json, not {subtype or 'without a type'}")
        charset = self.mimetype_params.get("charset", "utf-8").lower()
        if charset not in ("utf-8", "utf8", "us-ascii"):
            raise HTTPError(415, f"the JSON must be in UTF-8, not {charset}")
        body = self.get_data(cache=True)
        if not body:
            raise HTTPError(400, "the body is empty where JSON is expected")
        return body


