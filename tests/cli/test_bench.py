"""``prologue bench``: one request, timed in process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from prologue.cli.bench import measure
from tests.cli.conftest import Run, write

SITE = """\
    from prologue import App

    app = App()
    app.get("/", lambda ctx: "hello")
    app.post("/orders/{id}", lambda ctx: (f"{ctx.path_params['id']} {ctx.query['x']}", 201))
    app.get("/broken", lambda ctx: 1 / 0)
    """


class Ticking:
    """A clock that goes one millisecond each time it is asked, and more for each request."""

    def __init__(self) -> None:
        self.now = 0.0
        self.made = self.closed = 0

    def __call__(self) -> float:
        return self.now

    def app(self, environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        assert environ["wsgi.input"].read() == b""
        self.made += 1
        self.now += 0.001
        start_response("200 OK", [("Content-Type", "text/plain")])
        try:
            yield b"four"
            yield b"and five"
        finally:
            self.closed += 1


def test_the_time_of_a_request_is_that_of_the_whole_answer() -> None:
    clock = Ticking()
    result = measure(clock.app, "GET", "/", duration=2.0, clock=clock)
    assert (result.status, result.size) == ("200 OK", 12)
    assert result.seconds == pytest.approx(0.001)
    assert result.least_seconds == pytest.approx(0.001)
    assert result.requests == 2000
    assert clock.made == clock.closed


def test_a_request_that_takes_longer_than_a_round_is_made_once_a_round() -> None:
    clock = Ticking()
    assert measure(clock.app, "GET", "/", duration=0.002, clock=clock).requests == 20


def test_bench_says_what_was_asked_and_what_it_took(command: Run) -> None:
    write({"app.py": SITE})
    done = command("bench", "--seconds", "0.01")
    assert done.exit_code == 0
    first, second = done.stdout.splitlines()
    assert first == "GET /: 200 OK, 5 bytes"
    assert "requests/s in one thread" in second


def test_bench_takes_a_path_with_a_query_and_a_method_and_prints_json(command: Run) -> None:
    write({"app.py": SITE})
    done = command("bench", "app:app", "/orders/a%20b?x=1", "--method", "post", "--seconds", "0.01", "--json")
    assert done.exit_code == 0
    result = json.loads(done.stdout)
    assert (result["status"], result["size"]) == ("201 Created", len("a b 1"))
    assert result["seconds"] >= result["least_seconds"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["app:app", "/broken"], "GET /broken is answered with 500 Internal Server Error: mend that first"),
        (["app:app", "none"], "'none' does not begin with a slash"),
        (["app:app", "/", "--seconds", "0"], "0.0 is not in the range x>0"),
    ],
)
def test_what_cannot_be_timed_is_one_line_and_exit_status_2(
    arguments: list[str], message: str, command: Run
) -> None:
    write({"app.py": SITE})
    done = command("bench", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
