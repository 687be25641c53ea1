"""Calls of a WSGI application, watched by both checkers of PEP 3333: wsgiref's and WebTest's."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, NamedTuple
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

from webtest import TestApp


class Answer(NamedTuple):
    """What a server would have sent."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of a field that may be there once."""
        values = self.all(name)
        assert len(values) < 2, values
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def text(self) -> str:
        return self.body.decode()


def client(app: Any) -> Any:
    """WebTest's client, with lint on, around wsgiref's checker."""
    return TestApp(validator(app), lint=True)


def environ_for(
    method: str = "GET", path: str = "/", body: bytes | None = None, **more: Any
) -> dict[str, Any]:
    """An environ as a server makes it: `path` is text before the percent-encoding."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path.encode().decode("latin-1"),
        "QUERY_STRING": "",
        "REMOTE_ADDR": "127.0.0.1",
    }
    if body is not None:
        environ["CONTENT_LENGTH"] = str(len(body))
    environ["wsgi.input"] = io.BytesIO(body or b"")
    environ.update(more)
    setup_testing_defaults(environ)
    return environ


class Started:
    """A response that has begun: what the server got from the application, not yet iterated."""

    def __init__(self, app: Any, environ: dict[str, Any]) -> None:
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.body: Any = app(environ, self._start_response)

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        assert not self.status, "start_response was called twice"
        self.status = status
        self.headers = headers
        return lambda data: None

    def close(self) -> None:
        getattr(self.body, "close", lambda: None)()


def call(app: Any, method: str = "GET", path: str = "/", body: bytes | None = None, **more: Any) -> Answer:
    """One whole request, under wsgiref's checker."""
    started = Started(validator(app), environ_for(method, path, body, **more))
    try:
        sent = b"".join(started.body)
    finally:
        started.close()
    return Answer(int(started.status[:3]), started.headers, sent)
