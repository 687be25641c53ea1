"""Time an application in process: what a request costs without a server and a network."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["Measurement", "measure"]

_ROUNDS = 20


class Measurement(NamedTuple):
    """What some requests took.

    Attributes:
        status: of the answer, such as ``"200 OK"``.
        size: bytes of its body.
        requests: how many were made.
        seconds: mean time of a request, in the median of all rounds.
        least_seconds: mean time of a request in the best round.
    """

    status: str
    size: int
    requests: int
    seconds: float
    least_seconds: float


def measure(
    app: WSGIApplication,
    method: str,
    path: str,
    *,
    duration: float = 2.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Measurement:
    """Make the same request again and again, as a server would: iterate over the answer, and close it.

    Args:
        app: any WSGI application.
        method: such as ``"GET"``; no body is sent.
        path: with or without a query, percent-encoded.
        duration: seconds that all of it takes, about.
        clock: for tests: seconds, never going back.

    Raises:
        click.ClickException: the application answers with 500 or above: there is nothing to time.
        Exception: what the application raises.
    """
    from werkzeug.test import EnvironBuilder

    environ = EnvironBuilder(path, method=method, environ_base={"REMOTE_ADDR": "127.0.0.1"}).get_environ()
    statuses: list[str] = []

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], object]:
        statuses[:] = [status]
        return lambda _data: None

    def ask(environ: dict[str, Any]) -> int:
        answer = app(environ, start_response)
        try:
            return sum(map(len, answer))
        finally:
            if hasattr(answer, "close"):
                answer.close()

    def run(count: int) -> float:
        begin = clock()
        for _ in range(count):
            ask({**environ, "wsgi.input": io.BytesIO()})
        return clock() - begin

    size = ask(environ.copy())
    status = statuses[0]
    if status >= "5":
        raise click.ClickException(f"{method} {path} is answered with {status}: mend that first")
    count = 1
    while (took := run(count)) < duration / _ROUNDS / 2:
        count *= 2
    least = duration / _ROUNDS / took * count
    count = max(1, round(least))
    each = [run(count) / count for _ in range(_ROUNDS)]
    return Measurement(status, size, count * _ROUNDS, median(each), min(each))
