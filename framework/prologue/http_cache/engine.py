"""The cache between a request and an application: looks up, asks, stores, and says what it did.

* **Waiting.** Of concurrent misses of one URL and variant one asks; the others wait, a bounded time, and then
  look again for themselves. Nobody is handed another's response: everybody decides by what is in the store.
* **Storing.** A response is stored when its body is complete and was closed without an error; a list of bytes
  is complete at once.
* **Failing.** A cache that does not answer is a miss. An application that fails is answered for by a stale
  response where that is allowed; otherwise its error is passed on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from prologue.errors import CacheUnavailableError
from prologue.http_cache.asking import Answer, Ask, Tee, close
from prologue.http_cache.background import Refresher
from prologue.http_cache.decide import Action, Decision, decide, may_serve_on_error, why_bypass
from prologue.http_cache.fields import fields_of
from prologue.http_cache.flights import Flight, Flights, Verdict
from prologue.http_cache.invalidation import SAFE_METHODS, keys_to_invalidate, tags_to_invalidate
from prologue.http_cache.key import Target, target_of
from prologue.http_cache.merge import merge_headers, to_update
from prologue.http_cache.plain import is_plain, plain_hit
from prologue.http_cache.profile import Profile
from prologue.http_cache.queries import FIELD, Queries, query_tag
from prologue.http_cache.refreshing import CONDITIONS, REFRESH, WHOLE, refreshing, run
from prologue.http_cache.replies import FindBody, refusal, reply, writes_date
from prologue.http_cache.storable import make_stored, why_not_storable
from prologue.http_cache.store import ResponseStore
from prologue.http_cache.stored import Stored, Variants
from prologue.http_cache.structured import OWN_FIELD

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from prologue.cache import CacheBackend

__all__ = ["Engine"]

logger = logging.getLogger("prologue.http_cache")

_CREDENTIALS = frozenset(("HTTP_AUTHORIZATION", "HTTP_COOKIE"))


class Engine:
    """The rules, put to work over a cache.

    Args:
        cache: where responses are kept.
        profile: how it judges.
        max_body_size: bytes of the largest body that is stored.
        coalesce_timeout: seconds that a request waits for another's response.
        name: of this cache in ``Cache-Status``, a token.
        no_vary_search: whether responses say by ``No-Vary-Search`` which query parameters make no difference.
        detail: whether ``Cache-Status`` has the key and says why a response was not stored.
        clock: the wall clock.

    Thread safety: any thread may call any method.
    Fork safety: a child starts without flights and refreshes.
    """

    __slots__ = (
        "_detail",
        "_hit",
        "_name",
        "_wait",
        "clock",
        "flights",
        "max_body_size",
        "profile",
        "queries",
        "refresher",
        "store",
    )

    def __init__(
        self,
        cache: CacheBackend,
        profile: Profile,
        *,
        max_body_size: int = 1_048_576,
        coalesce_timeout: float = 5.0,
        no_vary_search: bool = False,
        name: str = "prologue",
        detail: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.profile = profile
        self.max_body_size = max_body_size
        self.clock = clock
        self.store = ResponseStore(cache, clock)
        self.queries = Queries(cache) if no_vary_search else None
        self.flights = Flights()
        self.refresher = Refresher()
        self._wait = coalesce_timeout
        self._name = name
        self._hit = f"{name}; hit; ttl="
        self._detail = detail

    def answer_timed(self, environ: dict[str, Any], ask: Ask, application: WSGIApplication) -> Answer:
        """Answer a request, and say how long it took (``Server-Timing``); see :meth:`answer`."""
        start = time.perf_counter()
        answer = self.answer(environ, ask, application)
        taken = (time.perf_counter() - start) * 1e3
        hit = any(name == "Cache-Status" and "; hit" in value for name, value in answer.headers)
        said = f"cache;desc={'hit' if hit else 'miss'};dur={taken:.3f}"
        # In front: a Content-Length that is the last field is looked for there.
        return answer._replace(headers=[("Server-Timing", said), *answer.headers])

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
                return self._fetch(environ, ask, target, variants, decision, None)
            return self._pass(environ, ask, "bypass")  # another cache wants the application's own answer
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

    # -- from the store -----------------------------------------------------------------------------------

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
            return refusal(f"{self._name}; fwd=request; fwd-status=504")
        stored, age = decision.stored, decision.age
        assert stored is not None
        said = f"{self._hit}{int(stored.lifetime - age)}"
        if self._detail:
            said += f"; key={_quoted(target.key)}"
        answer = reply(environ, stored, age, said, self.store.body)
        if answer is not None and decision.action is Action.REFRESH:
            # The request may be over before the refresh begins: it gets an environ of its own.
            self.refresher.start(
                (target, stored.selecting), partial(run, application, refreshing(environ, self))
            )
        return answer

    def _reply_stale(
        self, environ: Mapping[str, Any], decision: Decision, said: str, find_body: FindBody
    ) -> Answer | None:
        """Return a stale answer in place of a failure; None where that is not allowed."""
        stored = decision.stored
        if stored is None:
            return None
        age = stored.current_age(self.clock())
        if not may_serve_on_error(stored, age):
            return None
        said = f"{self._name}; fwd=stale; {said}; ttl={int(stored.lifetime - age)}"
        return reply(environ, stored, age, said, find_body)

    # -- from the application -----------------------------------------------------------------------------

    def _pass(self, environ: Mapping[str, Any], ask: Ask, reason: str) -> Answer:
        """Ask the application and store nothing; clear what an unsafe request has made invalid."""
        answer = ask({})
        if environ["REQUEST_METHOD"] not in SAFE_METHODS:
            status, fields = int(answer.status[:3]), fields_of(answer.headers)
            keys = keys_to_invalidate(environ, status, fields)
            if keys:
                try:
                    self.invalidate(keys, tags_to_invalidate(environ, status, fields))
                except CacheUnavailableError as error:
                    logger.warning("%s could not be invalidated: %s", keys, error)
        return self._passed(environ, answer, f"{self._name}; fwd={reason}")

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
            or (decision.stored is None and (decision.reason == "request" or "HTTP_RANGE" in environ))
            or self.flights.is_uncacheable(_crowd(target, environ))
        )
        end = time.monotonic() + self._wait
        while not alone:
            names = dict.fromkeys(name for stored in variants.responses for name, _ in stored.selecting)
            said = tuple(environ.get(name) for name in names)
            flight, leads = self.flights.join((target.spelling, _crowd(target, environ), tuple(names), said))
            if leads:
                break
            verdict = flight.wait(end - time.monotonic())
            if verdict is Verdict.FAILED:
                answer = self._reply_stale(environ, decision, "fwd-status=500; collapsed", self.store.body)
                if answer is not None:
                    return answer
            if verdict is not Verdict.LOOK:
                alone = True
                break
            target, variants = self.find(environ, target)
            decision = decide(environ, variants, target.spelling, self.clock(), self.profile)
            if decision.action is not Action.FETCH:
                answer = self._reply(environ, target, decision, application)
                if answer is not None:
                    return answer
        if alone:
            return self._fetch(environ, ask, target, variants, decision, None)
        try:
            # Somebody may have stored it between the look and the flight.
            target, again = self.find(environ, target)
            if again.responses != variants.responses:
                decision = decide(environ, again, target.spelling, self.clock(), self.profile)
                if decision.action is not Action.FETCH:
                    answer = self._reply(environ, target, decision, application)
                    if answer is not None:
                        self.flights.land(flight, Verdict.LOOK)
                        return answer
            return self._fetch(environ, ask, target, again, decision, flight)
        except BaseException:
            self.flights.land(flight, Verdict.FAILED)
            raise

    def _fetch(
        self,
        environ: dict[str, Any],
        ask: Ask,
        target: Target,
        variants: Variants,
        decision: Decision,
        flight: Flight | None,
    ) -> Answer:
        """Ask the application; store its response where it may be, and end the flight."""
        # The body is held while the application is asked: a cache may drop it any time, and without it
        # neither "not modified" nor a failure could be answered.
        held = None
        if decision.stored is not None and environ["REQUEST_METHOD"] == "GET":
            held = self.store.body(decision.stored)
            if held is None:
                decision = Decision(Action.FETCH, reason="miss")
        validated = decision.stored

        def find_body(_: Stored) -> bytes | None:
            return held

        changes = self._changes(environ, target, decision)
        requested = self.clock()
        try:
            answer = ask(changes)
        except Exception as error:
            stale = self._reply_stale(environ, decision, "fwd-status=500", find_body)
            if stale is None or getattr(error, "status", 500) < 500:
                raise
            logger.warning("the application failed, a stale response is served", exc_info=True)
            self._land(flight, Verdict.FAILED)
            return stale
        received = self.clock()
        status = int(answer.status[:3])
        if status >= 500:
            stale = self._reply_stale(environ, decision, f"fwd-status={status}", find_body)
            if stale is not None:
                close(answer.body)
                self._land(flight, Verdict.FAILED)
                return stale
        asked = changes.get("HTTP_IF_NONE_MATCH") or changes.get("HTTP_IF_MODIFIED_SINCE")
        if status == 304 and validated is not None and asked:
            close(answer.body)
            fresh = self._freshen(environ, target, variants, validated, answer, requested, received)
            self._land(flight, Verdict.LOOK)
            said = f"{self._name}; fwd={decision.reason or 'stale'}; fwd-status=304"
            made = reply(environ, fresh, fresh.current_age(received), said, find_body)
            assert made is not None
            return made
        return self._store(environ, target, decision, answer, flight, requested, received)

    def _changes(
        self, environ: Mapping[str, Any], target: Target, decision: Decision
    ) -> Mapping[str, str | None]:
        """Return what is asked otherwise than the client did, to store the answer (section 4.3.1)."""
        stored = decision.stored
        if environ["REQUEST_METHOD"] != "GET":
            return {}
        if stored is None:
            alone = decision.reason == "request" or self.flights.is_uncacheable(_crowd(target, environ))
            return {} if alone or CONDITIONS.keys().isdisjoint(environ) else CONDITIONS
        changes: dict[str, str | None] = dict(WHOLE)
        if stored.etag:
            changes["HTTP_IF_NONE_MATCH"] = stored.etag
        if stored.last_modified:
            changes["HTTP_IF_MODIFIED_SINCE"] = stored.last_modified
        return changes

    def _freshen(
        self,
        environ: Mapping[str, Any],
        target: Target,
        variants: Variants,
        validated: Stored,
        answer: Answer,
        requested: float,
        received: float,
    ) -> Stored:
        """Update what is stored by a 304, and return what the request is answered with (section 4.3.4)."""
        fields = fields_of(answer.headers)
        replaced: dict[Stored, Stored] = {}
        for stored in to_update(variants, validated, fields):
            headers = merge_headers(stored, answer.headers)
            merged = fields_of(headers)
            made = None
            # What states another rule now would be found by the old one.
            moved = self.queries is not None and merged.get(FIELD) != fields_of(stored.headers).get(FIELD)
            if not moved and not why_not_storable(
                environ, stored.status, merged, received, self.profile, answer.personal
            ):
                made = make_stored(
                    environ,
                    stored.spelling,
                    stored.status,
                    headers,
                    merged,
                    requested,
                    received,
                    self.profile,
                )
            if made is not None:
                replaced[stored] = _with_body(made, stored, self._tags(made, target))
            else:
                self.store.remove(target.key, stored)
        if replaced:
            self.store.replace(target.key, replaced, requested)
        elif validated not in to_update(variants, validated, fields):
            self.store.remove(target.key, validated)
        return replaced.get(validated, validated)

    def _store(
        self,
        environ: dict[str, Any],
        target: Target,
        decision: Decision,
        answer: Answer,
        flight: Flight | None,
        requested: float,
        received: float,
    ) -> Answer:
        """Pass a response on, and store it on the way where it may be."""
        status = int(answer.status[:3])
        fields = fields_of(answer.headers)
        said = f"{self._name}; fwd={decision.reason or 'miss'}"
        reason = why_not_storable(environ, status, fields, received, self.profile, answer.personal)
        length = _length(fields)
        if not reason and length is not None and length > self.max_body_size:
            reason = f"{length} bytes are more than {self.max_body_size}"
        stored = None
        if not reason:
            stored = make_stored(
                environ, target.spelling, status, answer.headers, fields, requested, received, self.profile
            )
            reason = "" if stored else "it would be stale at once"
        if stored is None:
            if environ["REQUEST_METHOD"] == "GET" and status < 500 and status not in (206, 304, 416):
                self.flights.mark(_crowd(target, environ), cacheable=False)
                if decision.stored is not None:
                    self.store.remove(target.key, decision.stored)
            elif environ["REQUEST_METHOD"] == "HEAD" and decision.stored is not None:
                self._compare_head(target, decision.stored, fields)
            self._land(flight, Verdict.FAILED if status >= 500 else Verdict.UNCACHEABLE)
            if self._detail:
                said += f"; detail={_quoted(reason)}"
            return self._passed(environ, answer, said)
        if self.queries is not None:
            target = self.queries.target(environ, self.profile.careful, fields)
            stored = replace(stored, spelling=target.spelling, tags=self._tags(stored, target))
        self.flights.mark(_crowd(target, environ), cacheable=True)
        finish = partial(self._finish, environ, target, stored, requested, flight)
        body = answer.body
        if isinstance(body, (list, tuple)):
            whole = b"".join(body)
            complete = length in (None, len(whole)) and len(whole) <= self.max_body_size
            finish(whole if complete else None)
            tee = None
        else:
            body = tee = Tee(body, self.max_body_size, length, finish)
        if status == 200 and not WHOLE.keys().isdisjoint(environ):
            # The client's own conditions are answered from what was stored just now.
            if tee is not None:
                body = tee.drain()
            latest = self.store.find(target.key).choose(target.spelling, environ)
            if latest is not None and latest.received == received:
                made = reply(environ, latest, latest.age, f"{said}; stored", self.store.body)
                if made is not None:
                    return made
        return self._passed(environ, answer._replace(body=body), f"{said}; stored")

    def _finish(
        self,
        environ: Mapping[str, Any],
        target: Target,
        stored: Stored,
        requested: float,
        flight: Flight | None,
        body: bytes | None,
    ) -> None:
        try:
            if body is not None:
                self.store.put(target, environ, stored, body, requested)
                if self.queries is not None:
                    self.queries.remember(target, fields_of(stored.headers))
        except Exception:
            logger.exception("a response could not be stored")
        finally:
            self._land(flight, Verdict.LOOK)

    def _tags(self, stored: Stored, target: Target) -> tuple[str, ...]:
        return stored.tags if self.queries is None else (*stored.tags, query_tag(target.key))

    def _compare_head(self, target: Target, stored: Stored, fields: Mapping[str, list[str]]) -> None:
        """Drop a stored response that a HEAD shows to be outdated (section 4.3.5)."""
        length = _length(fields)
        if (
            (length is not None and length != stored.length)
            or ("etag" in fields and fields["etag"][0] != stored.etag)
            or ("last-modified" in fields and fields["last-modified"][0] != stored.last_modified)
        ):
            self.store.remove(target.key, stored)

    def _land(self, flight: Flight | None, verdict: Verdict) -> None:
        if flight is not None:
            self.flights.land(flight, verdict)

    def _passed(self, environ: Mapping[str, Any], answer: Answer, said: str) -> Answer:
        """Return an answer of the application as it is sent on."""
        dropped = {OWN_FIELD, "date"} if writes_date(environ) else {OWN_FIELD}
        headers = [field for field in answer.headers if field[0].lower() not in dropped]
        headers.append(("Cache-Status", said))
        return answer._replace(headers=headers)


def _crowd(target: Target, environ: Mapping[str, Any]) -> tuple[str, bool]:
    """Return whose answers are alike: what credentials make private may be shared without them."""
    return target.key, not environ.keys().isdisjoint(_CREDENTIALS)


def _with_body(made: Stored, stored: Stored, tags: tuple[str, ...]) -> Stored:
    return replace(made, body=stored.body, length=stored.length, selecting=stored.selecting, tags=tags)


def _length(fields: Mapping[str, list[str]]) -> int | None:
    values = fields.get("content-length", [])
    return int(values[0]) if len(values) == 1 and values[0].isascii() and values[0].isdigit() else None


def _quoted(text: str) -> str:
    """Return a text as a String of RFC 9651, what it cannot hold replaced."""
    printable = "".join(character if " " <= character <= "~" else "?" for character in text)
    escaped = printable.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
