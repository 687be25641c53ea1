"""The cache between a request and an application: looks up, waits, asks, and says what it did.

* **Waiting.** Of concurrent misses of one URL and variant one asks; the others wait, a bounded time, and then
  look again for themselves. Nobody is handed another's response: everybody decides by what is in the store.
  Who finds nothing there for itself asks, and waits no second time.
* **Failing.** A cache that does not answer is a miss. An application that fails is answered for by a stale
  response where that is allowed; otherwise its error is passed on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from prologue.errors import CacheUnavailableError, SettingsError
from prologue.http_cache.asking import Answer, Ask
from prologue.http_cache.background import Refresher
from prologue.http_cache.decide import Action, Decision, decide, why_bypass
from prologue.http_cache.fetching import Fetcher, crowd
from prologue.http_cache.fields import fields_of, is_token
from prologue.http_cache.flights import Flight, Flights, Verdict
from prologue.http_cache.invalidation import SAFE_METHODS, keys_to_invalidate, tags_to_invalidate
from prologue.http_cache.key import Target, key_of_url, target_of
from prologue.http_cache.normal import Normal
from prologue.http_cache.plain import is_plain, plain_hit
from prologue.http_cache.profile import Profile
from prologue.http_cache.queries import Queries, query_tag
from prologue.http_cache.refreshing import REFRESH, WITNESS, refreshing, run
from prologue.http_cache.replies import quoted, refusal, reply
from prologue.http_cache.storable import forbids_storing
from prologue.http_cache.store import ResponseStore
from prologue.http_cache.stored import Variants

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from prologue.cache import CacheBackend

__all__ = ["Engine"]

logger = logging.getLogger("prologue.http_cache")


class Engine:
    """The rules, put to work over a cache.

    Args:
        cache: where responses are kept.
        profile: how it judges.
        normal: what its requests are made alike by; those who call this do it.
        max_body_size: bytes of the largest body that is stored.
        coalesce_timeout: seconds that a request waits for another's response.
        name: of this cache in ``Cache-Status``, a token.
        no_vary_search: whether responses say by ``No-Vary-Search`` which query parameters make no difference.
        detail: whether ``Cache-Status`` has the key and says why a response was not stored.
        clock: the wall clock.

    Raises:
        SettingsError: the name is no token, or a number is out of range.

    Thread safety: any thread may call any method.
    Fork safety: a child starts without flights and refreshes.
    """

    __slots__ = (
        "_detail",
        "_fetcher",
        "_hit",
        "_name",
        "_wait",
        "clock",
        "flights",
        "normal",
        "profile",
        "queries",
        "refresher",
        "store",
    )

    def __init__(
        self,
        cache: CacheBackend,
        profile: Profile,
        normal: Normal,
        *,
        max_body_size: int = 1_048_576,
        coalesce_timeout: float = 5.0,
        no_vary_search: bool = False,
        name: str = "prologue",
        detail: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not is_token(name):
            raise SettingsError(f"name {name!r} is no token; write a word, such as 'edge'")
        if max_body_size < 0:
            raise SettingsError(f"max_body_size is bytes, 0 or more, not {max_body_size!r}")
        if not 0 <= coalesce_timeout < float("inf"):
            raise SettingsError(f"coalesce_timeout is seconds, 0 or more, not {coalesce_timeout!r}")
        self.profile = profile
        self.normal = normal
        self.clock = clock
        self.store = ResponseStore(cache, clock)
        self.queries = Queries(cache) if no_vary_search else None
        self.flights = Flights()
        self.refresher = Refresher()
        self._fetcher = Fetcher(
            self.store,
            self.flights,
            self.queries,
            profile,
            max_body_size=max_body_size,
            name=name,
            detail=detail,
            clock=clock,
        )
        self._wait = coalesce_timeout
        self._name = name
        self._hit = f"{name}; hit; ttl="
        self._detail = detail

    def answer_timed(self, environ: dict[str, Any], ask: Ask, application: WSGIApplication) -> Answer:
        """Answer a request, and say how long it took (``Server-Timing``); see :meth:`answer`."""
        start = time.perf_counter()
        answer = self.answer(environ, ask, application)
        taken = (time.perf_counter() - start) * 1e3
        hit = any(name == "Cache-Status" and value.startswith(self._hit) for name, value in answer.headers)
        said = f"cache;desc={'hit' if hit else 'miss'};dur={taken:.3f}"
        # In front: a Content-Length that is the last field is looked for there.
        return replace(answer, headers=[("Server-Timing", said), *answer.headers])

    def answer(self, environ: dict[str, Any], ask: Ask, application: WSGIApplication) -> Answer:
        """Answer a request.

        Args:
            environ: the request.
            ask: asks the application; called once at the most.
            application: where a refresh is sent to; it leads back here.

        Raises:
            Exception: what the application raises.
        """
        profile = self.profile
        # PERF: most requests ask for nothing special, which one look shows; their hits take two thirds of
        # the time of the others.
        plain = is_plain(environ)
        reason = "" if plain else why_bypass(environ, profile)
        if reason:
            return self._pass(environ, ask, reason)
        target = target_of(environ, profile.careful and not plain)
        # PERF: the usual case of `find`; a hit is 5.3 to 5.6, not 5.5 to 5.8, times a plain one.
        if self.queries is None:
            variants = self.store.find(target.key)
        else:
            target, variants = self.find(environ, target)
        now = self.clock()
        if plain and not self._detail:
            answer = plain_hit(environ, target, variants, now, self._hit, self.store.body)
            if answer is not None:
                return answer
        decision = decide(environ, variants, target.spelling, now, profile)
        refreshing: object = environ.get(REFRESH)
        if refreshing is not None:
            if refreshing is self:
                return self._fetcher.fetch(environ, ask, target, variants, decision, None)
            # Another cache, or `explain`, wants the application's own answer.
            witness = environ.get(WITNESS)
            return self._pass(
                environ, ask if witness is None else partial(_ask_before, ask, witness), "bypass"
            )
        if decision.action is not Action.FETCH:
            answer = self._reply(environ, target, decision, application)
            if answer is not None:
                return answer
        return self._coalesce(environ, ask, application, target, variants, decision)

    def close(self, timeout: float = 5.0) -> None:
        """Wait for refreshes, so many seconds at the most, and start none any more."""
        self.refresher.close(timeout)

    def invalidate(self, keys: Iterable[str] = (), tags: Iterable[str] = ()) -> None:
        """Remove the responses of URLs, and those with tags; see :meth:`ResponseStore.invalidate`."""
        keys = list(keys)
        alike = map(query_tag, keys) if self.queries is not None else ()
        self.store.invalidate(keys, dict.fromkeys((*tags, *alike)))

    def key_of_url(self, url: str) -> str:
        """Return the key of an absolute URL, made alike as those of requests are."""
        return key_of_url(self.normal.url(url))

    def find(self, environ: Mapping[str, Any], target: Target) -> tuple[Target, Variants]:
        """Return what is stored for a request, and the target that it is, or would be, stored under."""
        alike = None if self.queries is None else self.queries.find(environ, self.profile.careful)
        if alike is None:
            return target, self.store.find(target.key)
        variants = self.store.find(alike.key)
        if variants.choose(alike.spelling, environ) is None:
            exact = target_of(environ, self.profile.careful)
            others = self.store.find(exact.key)
            if others.choose(exact.spelling, environ) is not None:
                return exact, others
        return alike, variants

    def _reply(
        self, environ: dict[str, Any], target: Target, decision: Decision, application: WSGIApplication
    ) -> Answer | None:
        """Return the answer that a decision allows from the store; None when there is none."""
        if decision.action is Action.REFUSE:
            return refusal()
        stored, age = decision.stored, decision.age
        assert stored is not None
        said = f"{self._hit}{int(stored.lifetime - age)}"
        if self._detail:
            said += f"; key={quoted(target.key)}"
        answer = reply(environ, stored, age, said, self.store.body)
        if answer is not None and decision.action is Action.REFRESH:
            # The request may be over before the refresh begins: it gets an environ of its own.
            self.refresher.start(
                (target, stored.selecting), partial(run, application, refreshing(environ, self))
            )
        return answer

    def _pass(self, environ: Mapping[str, Any], ask: Ask, reason: str) -> Answer:
        """Ask the application and store nothing; clear what an unsafe request has made invalid."""
        answer = ask({})
        if environ["REQUEST_METHOD"] not in SAFE_METHODS:
            status, fields = int(answer.status[:3]), fields_of(answer.headers)
            keys = keys_to_invalidate(environ, status, fields, self.key_of_url)
            if keys:
                try:
                    self.invalidate(keys, tags_to_invalidate(environ, status, fields))
                except CacheUnavailableError as error:
                    logger.warning("%s could not be invalidated: %s", keys, error)
        return self._fetcher.passed(environ, answer, f"{self._name}; fwd={reason}")

    def _coalesce(
        self,
        environ: dict[str, Any],
        ask: Ask,
        application: WSGIApplication,
        target: Target,
        variants: Variants,
        decision: Decision,
    ) -> Answer:
        """Ask the application, or wait for one who does and look again."""
        alone = (
            environ["REQUEST_METHOD"] == "HEAD"
            or decision.reason == "request"
            or (decision.stored is None and "HTTP_RANGE" in environ)
            or forbids_storing(environ)
            or self.flights.is_uncacheable(crowd(target, environ))
        )
        end = time.monotonic() + self._wait
        flight: Flight | None = None
        landed: Hashable = None
        # What has landed with a response that is of no use to this request is not waited for again.
        while not alone and (key := _flight_key(target, variants, environ)) != landed:
            joined, leads = self.flights.join(key)
            if leads:
                flight = joined
                break
            verdict = joined.wait(end - time.monotonic())
            if verdict is Verdict.FAILED:
                said = "fwd-status=500; collapsed"
                answer = self._fetcher.reply_stale(environ, decision, said, self.store.body)
                if answer is not None:
                    return answer
            if verdict not in (Verdict.STORED, Verdict.GIVEN_UP):
                break
            landed = key if verdict is Verdict.STORED else None
            target, variants = self.find(environ, target)
            decision = decide(environ, variants, target.spelling, self.clock(), self.profile)
            if decision.action is not Action.FETCH:
                answer = self._reply(environ, target, decision, application)
                if answer is not None:
                    return answer
        if flight is None:
            return self._fetcher.fetch(environ, ask, target, variants, decision, None)
        try:
            # Somebody may have stored it between the look and the flight.
            target, again = self.find(environ, target)
            if again.responses != variants.responses:
                decision = decide(environ, again, target.spelling, self.clock(), self.profile)
                if decision.action is not Action.FETCH:
                    answer = self._reply(environ, target, decision, application)
                    if answer is not None:
                        self.flights.land(flight, Verdict.STORED)
                        return answer
            return self._fetcher.fetch(environ, ask, target, again, decision, flight)
        except BaseException:
            self.flights.land(flight, Verdict.FAILED)
            raise


def _ask_before(ask: Ask, witness: list[Answer], changes: Mapping[str, str | None]) -> Answer:
    answer = ask(changes)
    witness.append(answer)
    return answer


def _flight_key(target: Target, variants: Variants, environ: Mapping[str, Any]) -> Hashable:
    """Return what requests have in common that one response may answer, as far as it is known by now."""
    names = tuple(dict.fromkeys(name for stored in variants.responses for name, _ in stored.selecting))
    return target.spelling, crowd(target, environ), names, tuple(map(environ.get, names))
