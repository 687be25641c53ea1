"""Concurrent misses: one asks, the others wait and look; what cannot be shared waits for nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import pytest

from prologue.cache import InMemoryCache
from prologue.errors import CacheUnavailableError
from prologue.http_cache import HTTPCache
from prologue.http_cache.background import Refresher
from prologue.http_cache.flights import Flight, Flights, Verdict
from tests.calling import Answer, Started, call, environ_for
from tests.concurrency import PATIENCE, Task, in_child, pass_gate, together, until
from tests.http_cache.origins import Setting

HEADERS = [("Content-Type", "text/plain"), ("Cache-Control", "max-age=60")]


class Gated:
    """An application whose answers wait for a gate; it counts those inside."""

    def __init__(self, *headers: tuple[str, str], status: str = "200 OK") -> None:
        self.headers = list(headers) or HEADERS
        self.status = status
        self.gate = threading.Event()
        self.lock = threading.Lock()
        self.calls = 0
        self.fails = False

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        with self.lock:
            self.calls += 1
        pass_gate(self.gate)
        if self.fails:
            raise OSError("down")
        start_response(self.status, [("Content-Type", "text/plain"), *self.headers])
        return [environ.get("HTTP_X", "body").encode()]


def waiting(cache: HTTPCache) -> int:
    """Return how many wait for the flights of a cache."""
    conditions: list[Any] = [flight._event for flight in cache.engine.flights._running.values()]
    return sum(len(event._cond._waiters) for event in conditions)


def start(cache: HTTPCache, count: int, **more: Any) -> list[Task[Answer]]:
    return [Task(lambda: call(cache, **more)) for _ in range(count)]


def test_a_thousand_requests_for_one_cold_url_are_one_call() -> None:
    calls = []

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        calls.append(1)
        start_response("200 OK", HEADERS)
        return [b"body"]

    cache = HTTPCache(application, InMemoryCache(), coalesce_timeout=PATIENCE)

    def ask(number: int) -> bytes:
        body: Any = cache(environ_for(), lambda *arguments: lambda data: None)
        return b"".join(body)

    assert together(1000, ask) == [b"body"] * 1000
    assert len(calls) == 1


def test_those_who_wait_get_what_was_stored() -> None:
    origin = Gated()
    cache = HTTPCache(origin, InMemoryCache(), coalesce_timeout=PATIENCE)
    tasks = start(cache, 5)
    until(lambda: waiting(cache) == 4)
    origin.gate.set()
    assert {task.result().body for task in tasks} == {b"body"}
    assert origin.calls == 1


def test_what_cannot_be_shared_runs_in_parallel_and_is_remembered() -> None:
    origin = Gated(("Cache-Control", "private"))
    cache = HTTPCache(origin, InMemoryCache(), coalesce_timeout=PATIENCE)
    tasks = start(cache, 5)
    until(lambda: waiting(cache) == 4)
    origin.gate.set()
    for task in tasks:
        task.result()
    assert origin.calls == 5
    inside = threading.Barrier(5)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        inside.wait(PATIENCE)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"own"]

    cache.application = application
    assert [answer.body for answer in together(5, lambda number: call(cache))] == [b"own"] * 5


def test_what_is_not_shared_with_credentials_is_still_shared_without() -> None:
    origin = Gated(*HEADERS[1:])
    origin.gate.set()
    cache = HTTPCache(origin, InMemoryCache(), coalesce_timeout=PATIENCE)
    call(cache, HTTP_COOKIE="a=b")
    origin.gate.clear()
    tasks = [*start(cache, 2, HTTP_COOKIE="a=b"), *start(cache, 3)]
    until(lambda: waiting(cache) == 2 and origin.calls == 4)
    origin.gate.set()
    assert {task.result().body for task in tasks} == {b"body"}
    assert origin.calls == 4


def test_who_missed_just_before_it_was_stored_does_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(("Cache-Control", "max-age=60"))
    other = HTTPCache(setting.origin, setting.store, clock=setting.clock)
    flights = setting.cache.engine.flights
    join = Flights.join

    def late(self: Flights, key: Hashable) -> tuple[Flight, bool]:
        if self is flights:
            call(other)
        return join(self, key)

    monkeypatch.setattr(Flights, "join", late)
    assert setting.status() == "prologue; hit; ttl=60"
    assert setting.origin.calls == 1
    assert not flights._running


def test_a_url_that_became_cacheable_is_coalesced_again() -> None:
    flights = Flights()
    flights.mark("a", cacheable=False)
    assert flights.is_uncacheable("a")
    flights.mark("a", cacheable=True)
    flights.mark("a", cacheable=True)
    assert not flights.is_uncacheable("a")


def test_uncacheable_urls_are_remembered_for_a_time_and_in_bounded_number() -> None:
    flights = Flights(memory=0)
    flights.mark("a", cacheable=False)
    assert not flights.is_uncacheable("a")
    flights = Flights(limit=2)
    for key in "abc":
        flights.mark(key, cacheable=False)
    assert [flights.is_uncacheable(key) for key in "abc"] == [False, True, True]


def test_other_variants_do_not_wait_for_each_other_once_they_are_known() -> None:
    origin = Gated(*HEADERS, ("Vary", "X"))
    origin.gate.set()
    cache = HTTPCache(origin, InMemoryCache(), coalesce_timeout=PATIENCE)
    call(cache, HTTP_X="first")
    origin.gate.clear()
    tasks = [*start(cache, 3, HTTP_X="a"), *start(cache, 3, HTTP_X="b")]
    until(lambda: waiting(cache) == 4)
    assert origin.calls == 3
    origin.gate.set()
    assert [task.result().body for task in tasks] == [b"a"] * 3 + [b"b"] * 3
    assert origin.calls == 3


def test_nobody_is_handed_the_variant_of_another() -> None:
    origin = Gated(*HEADERS, ("Vary", "X"))
    cache = HTTPCache(origin, InMemoryCache(), coalesce_timeout=PATIENCE)
    tasks = {name: start(cache, 2, HTTP_X=name) for name in ("a", "b", "c")}
    until(lambda: waiting(cache) == 5)
    origin.gate.set()
    for name, started in tasks.items():
        assert {task.result().body for task in started} == {name.encode()}
    assert 3 <= origin.calls <= 6


def test_who_waits_too_long_asks_for_itself() -> None:
    origin = Gated()
    cache = HTTPCache(origin, InMemoryCache(), coalesce_timeout=0)
    tasks = start(cache, 3)
    until(lambda: origin.calls == 3)
    origin.gate.set()
    assert {task.result().body for task in tasks} == {b"body"}


@pytest.mark.parametrize("status", ["200 OK", "500 Oops"])
def test_a_failure_lets_everybody_go_on(status: str) -> None:
    origin = Gated(*HEADERS[1:], status=status)
    origin.headers = []
    origin.fails = status == "200 OK"
    cache = HTTPCache(origin, InMemoryCache(), coalesce_timeout=PATIENCE)
    tasks = start(cache, 4)
    until(lambda: waiting(cache) == 3)
    origin.gate.set()
    errors = [task.error() for task in tasks]
    assert origin.calls == 4
    assert all(isinstance(error, OSError) for error in errors) is origin.fails


def test_who_waits_is_answered_stale_when_the_application_fails() -> None:
    now = [1e9]
    origin = Gated(("Cache-Control", "max-age=60, stale-if-error=600"))
    cache = HTTPCache(
        origin, InMemoryCache(clock=lambda: now[0]), coalesce_timeout=PATIENCE, clock=lambda: now[0]
    )
    origin.gate.set()
    call(cache)
    now[0] += 100
    origin.gate.clear()
    origin.fails = True
    tasks = start(cache, 4)
    until(lambda: waiting(cache) == 3)
    origin.gate.set()
    said = [str(task.result().header("Cache-Status")) for task in tasks]
    assert origin.calls == 2
    assert sum("collapsed" in text for text in said) == 3
    assert all("fwd=stale; fwd-status=500" in text for text in said)


def test_a_client_that_goes_away_lets_another_ask() -> None:
    class Endless:
        def __iter__(self) -> Iterator[bytes]:
            while True:
                yield b"x"

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response("200 OK", HEADERS)
        return Endless() if "HTTP_ENDLESS" in environ else [b"body"]

    cache = HTTPCache(application, InMemoryCache(), coalesce_timeout=PATIENCE)
    first = Started(cache, environ_for(HTTP_ENDLESS="1"))
    assert next(iter(first.body)) == b"x"
    tasks = start(cache, 3)
    until(lambda: waiting(cache) == 3)
    first.close()
    assert {task.result().body for task in tasks} == {b"body"}


def test_a_body_over_the_limit_lets_those_who_wait_go_on_at_once() -> None:
    gate = threading.Event()

    def large() -> Iterator[bytes]:
        yield b"x" * 20
        pass_gate(gate)
        yield b"y"

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response("200 OK", HEADERS)
        return large() if "HTTP_LARGE" in environ else [b"body"]

    cache = HTTPCache(application, InMemoryCache(), coalesce_timeout=PATIENCE, max_body_size=10)
    started = Started(cache, environ_for(HTTP_LARGE="1"))
    chunks = iter(started.body)
    assert next(chunks) == b"x" * 20
    assert call(cache).body == b"body"
    gate.set()
    assert list(chunks) == [b"y"]
    started.close()


def test_an_application_that_asks_the_cache_for_its_own_url_does_not_wait_for_itself() -> None:
    cache: HTTPCache

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response("200 OK", HEADERS)
        if "HTTP_INNER" in environ:
            return [b"inner"]
        return [b"outer " + call(cache, HTTP_INNER="1").body]

    cache = HTTPCache(application, InMemoryCache(), coalesce_timeout=PATIENCE)
    assert call(cache).body == b"outer inner"


def test_a_child_of_a_fork_waits_for_no_flight_of_its_parent() -> None:
    origin = Gated()
    cache = HTTPCache(origin, InMemoryCache(), coalesce_timeout=PATIENCE)
    (task,) = start(cache, 1)
    until(lambda: origin.calls == 1)

    def ask() -> str:
        cache.application = lambda environ, start_response: (start_response("200 OK", HEADERS), [b"child"])[1]
        return call(cache).body.decode()

    assert in_child(ask) == "child"
    origin.gate.set()
    assert task.result().body == b"body"


def test_refreshes_are_few_one_for_each_key_and_end_with_the_cache() -> None:
    refresher = Refresher(limit=2)
    gate = threading.Event()
    started = [refresher.start(key, lambda: pass_gate(gate)) for key in ("a", "a", "b", "c")]
    assert started == [True, False, True, False]
    assert in_child(lambda: len(refresher._running)) == 0
    gate.set()
    refresher.close(PATIENCE)
    assert not refresher._running
    assert not refresher.start("d", lambda: None)


def test_a_refresh_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    refresher = Refresher()

    def fail() -> None:
        raise OSError("down")

    refresher.start("a", fail)
    refresher.close(PATIENCE)
    assert "refreshing a stale response failed" in caplog.text
    assert not refresher._running


def test_a_refresh_that_gets_no_thread_is_left_to_a_later_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    refresher = Refresher()
    assert not refresher.start("a", lambda: None)
    assert not refresher._running


def test_landing_twice_keeps_the_first_verdict() -> None:
    flights = Flights()
    flight, leads = flights.join("a")
    assert leads
    flights.land(flight, Verdict.FAILED)
    flights.land(flight, Verdict.STORED)
    assert flight.verdict is Verdict.FAILED


def all_at_once(cache: HTTPCache, count: int, **more: Any) -> None:
    """See that so many requests are all inside the application at the same time."""
    inside = threading.Barrier(count)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        inside.wait(PATIENCE)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"own"]

    cache.application = application
    assert [answer.body for answer in together(count, lambda number: call(cache, **more))] == [b"own"] * count


@pytest.mark.parametrize("control", ["no-cache", "no-cache, max-age=60", "max-age=0"])
@pytest.mark.parametrize("validator", [[], [("ETag", '"1"')]])
def test_what_answers_one_request_only_lets_nobody_queue(
    control: str, validator: list[tuple[str, str]]
) -> None:
    origin = Gated(("Cache-Control", control), *validator)
    cache = HTTPCache(origin, InMemoryCache(), coalesce_timeout=PATIENCE)
    tasks = start(cache, 5)
    until(lambda: waiting(cache) == 4)
    origin.gate.set()
    assert {task.result().body for task in tasks} == {b"body"}
    all_at_once(cache, 5)


def test_what_may_be_served_stale_meanwhile_answers_those_who_waited() -> None:
    origin = Gated(("Cache-Control", "max-age=0, stale-while-revalidate=60"))
    cache = HTTPCache(origin, InMemoryCache(), coalesce_timeout=PATIENCE)
    cache.engine.refresher.close(0)
    tasks = start(cache, 5)
    until(lambda: waiting(cache) == 4)
    origin.gate.set()
    assert {task.result().body for task in tasks} == {b"body"}
    assert origin.calls == 1


def test_a_validation_that_is_good_for_one_request_lets_nobody_queue() -> None:
    setting = Setting(("Cache-Control", "max-age=60"), ("ETag", '"1"'), coalesce_timeout=PATIENCE)
    setting.origin.validates = True
    setting.get()
    setting.clock.now += 70
    setting.origin.headers = [("Cache-Control", "no-cache"), ("ETag", '"1"')]
    assert "fwd-status=304" in setting.status()
    all_at_once(setting.cache, 5)


def test_requests_that_insist_on_the_application_do_not_queue() -> None:
    setting = Setting(("Cache-Control", "max-age=60"), profile="rfc9111", coalesce_timeout=PATIENCE)
    setting.get()
    all_at_once(setting.cache, 5, HTTP_CACHE_CONTROL="no-cache")


def test_a_request_that_forbids_storing_leads_nobody_and_spoils_nothing() -> None:
    origin = Gated(*HEADERS[1:])
    cache = HTTPCache(origin, InMemoryCache(), coalesce_timeout=PATIENCE)
    tasks = [*start(cache, 1, HTTP_CACHE_CONTROL="no-store")]
    until(lambda: origin.calls == 1)
    tasks += start(cache, 4)
    until(lambda: origin.calls == 2 and waiting(cache) == 3)
    origin.gate.set()
    assert {task.result().body for task in tasks} == {b"body"}
    assert origin.calls == 2


def test_a_request_that_forbids_storing_removes_nothing() -> None:
    setting = Setting(("Cache-Control", "max-age=60, stale-if-error=600"))
    setting.get()
    setting.clock.now += 70
    setting.get(HTTP_CACHE_CONTROL="no-store")
    setting.origin.error = OSError("down")
    assert setting.get().body == b"body"


def test_nobody_queues_while_the_cache_below_does_not_answer() -> None:
    class Down(InMemoryCache):
        def set(self, *args: Any, **options: Any) -> None:
            raise CacheUnavailableError("down")

    origin = Gated()
    cache = HTTPCache(origin, Down(), coalesce_timeout=PATIENCE)
    tasks = start(cache, 5)
    until(lambda: waiting(cache) == 4)
    inside = threading.Barrier(4)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        inside.wait(PATIENCE)
        return origin(environ, start_response)

    cache.application = application
    origin.gate.set()
    assert {task.result().body for task in tasks} == {b"body"}


def test_a_purge_meanwhile_lets_one_of_those_who_wait_ask_again() -> None:
    origin = Gated()
    cache = HTTPCache(origin, InMemoryCache(), coalesce_timeout=PATIENCE)
    tasks = start(cache, 5)
    until(lambda: waiting(cache) == 4)
    cache.purge("http://127.0.0.1/")
    origin.gate.set()
    assert {task.result().body for task in tasks} == {b"body"}
    assert origin.calls == 2


def test_nobody_queues_for_a_body_over_the_limit() -> None:
    gate = threading.Event()
    inside = threading.Barrier(4)
    first = threading.Event()

    def large() -> Iterator[bytes]:
        if first.is_set():
            inside.wait(PATIENCE)
        first.set()
        pass_gate(gate)
        yield b"x" * 20

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response("200 OK", HEADERS)
        return large()

    cache = HTTPCache(application, InMemoryCache(), coalesce_timeout=PATIENCE, max_body_size=10)
    tasks = start(cache, 5)
    until(lambda: waiting(cache) == 4)
    gate.set()
    assert {task.result().body for task in tasks} == {b"x" * 20}
    all_at_once(cache, 4)
