"""Asking the application, and storing what it answers.

* **Storing.** A response is stored when its body is complete and was closed without an error; a list of bytes
  is complete at once.
* **Flights.** Every way out lands the flight that it was given, at the latest when the body is closed.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from msgspec.structs import replace

from prologue.http_cache.asking import Answer, Ask, Tee, close
from prologue.http_cache.decide import Action, Decision, may_serve_on_error
from prologue.http_cache.fields import fields_of
from prologue.http_cache.flights import Flight, Flights, Verdict
from prologue.http_cache.key import Target
from prologue.http_cache.merge import merge_headers, to_update
from prologue.http_cache.profile import Profile
from prologue.http_cache.queries import FIELD, Queries, query_tag
from prologue.http_cache.refreshing import CONDITIONS, WHOLE
from prologue.http_cache.replies import FindBody, quoted, reply, writes_date
from prologue.http_cache.storable import CREDENTIALS, forbids_storing, make_stored, why_not_storable
from prologue.http_cache.store import Outcome, ResponseStore
from prologue.http_cache.stored import Stored, Variants
from prologue.http_cache.structured import OWN_FIELD

__all__ = ["Fetcher", "crowd"]

logger = logging.getLogger("prologue.http_cache")

_LENGTH = re.compile(r"[0-9]{1,19}")


def crowd(target: Target, environ: Mapping[str, Any]) -> tuple[str, bool]:
    """Return whose answers are alike: what credentials make private may be shared without them."""
    return target.key, not environ.keys().isdisjoint(CREDENTIALS)


class Fetcher:
    """Asks the application on behalf of a cache.

    Args:
        store: where responses go.
        flights: those who wait.
        queries: the rules of ``No-Vary-Search``, if they count.
        profile: how the cache judges.
        max_body_size: bytes of the largest body that is stored.
        name: of the cache in ``Cache-Status``.
        detail: whether ``Cache-Status`` says why a response was not stored.
        clock: the wall clock.

    Thread safety: any thread may call any method.
    """

    __slots__ = ("_clock", "_detail", "_flights", "_limit", "_name", "_profile", "_queries", "_store")

    def __init__(
        self,
        store: ResponseStore,
        flights: Flights,
        queries: Queries | None,
        profile: Profile,
        *,
        max_body_size: int,
        name: str,
        detail: bool,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._flights = flights
        self._queries = queries
        self._profile = profile
        self._limit = max_body_size
        self._name = name
        self._detail = detail
        self._clock = clock

    def fetch(
        self,
        environ: dict[str, Any],
        ask: Ask,
        target: Target,
        variants: Variants,
        decision: Decision,
        flight: Flight | None,
    ) -> Answer:
        """Ask the application; store its response where it may be, and end the flight.

        Args:
            environ: the request.
            ask: asks; called once.
            target: of the request.
            variants: what is stored for its URL.
            decision: to ask; with the stored response that is to be validated, if there is one.
            flight: of those who wait for the response; landed here but where an exception is raised.

        Raises:
            Exception: what the application raises.
        """
        # The body is held while the application is asked: a cache may drop it any time, and without it
        # neither "not modified" nor a failure could be answered.
        held = None
        if decision.stored is not None and environ["REQUEST_METHOD"] == "GET":
            held = self._store.body(decision.stored)
            if held is None:
                # Without it the response would stand in the way of older ones that are still good.
                self._store.remove(target.key, decision.stored)
                decision = Decision(Action.FETCH, reason="miss")
        validated = decision.stored

        def find_body(_: Stored) -> bytes | None:
            return held

        changes = self._changes(environ, target, decision)
        requested = self._clock()
        try:
            answer = ask(changes)
        except Exception as error:
            stale = self.reply_stale(environ, decision, "fwd-status=500", find_body)
            if stale is None or getattr(error, "status", 500) < 500:
                raise
            logger.warning("the application failed, a stale response is served", exc_info=True)
            self._land(flight, Verdict.FAILED)
            return stale
        received = self._clock()
        status = int(answer.status[:3])
        if status >= 500:
            stale = self.reply_stale(environ, decision, f"fwd-status={status}", find_body)
            if stale is not None:
                close(answer.body)
                self._land(flight, Verdict.FAILED)
                return stale
        asked = changes.get("HTTP_IF_NONE_MATCH") or changes.get("HTTP_IF_MODIFIED_SINCE")
        if status == 304 and validated is not None and asked:
            close(answer.body)
            fresh = self._freshen(environ, target, variants, validated, answer, requested, received)
            self._land(flight, self._mark(environ, target, fresh, received))
            said = f"{self._name}; fwd={decision.reason or 'stale'}; fwd-status=304"
            made = reply(environ, fresh, fresh.current_age(received), said, find_body)
            assert made is not None
            return made
        return self._pass_and_store(environ, target, decision, answer, flight, requested, received)

    def reply_stale(
        self, environ: Mapping[str, Any], decision: Decision, said: str, find_body: FindBody
    ) -> Answer | None:
        """Return a stale answer in place of a failure; None where that is not allowed."""
        stored = decision.stored
        if stored is None:
            return None
        age = stored.current_age(self._clock())
        if not may_serve_on_error(stored, age):
            return None
        said = f"{self._name}; fwd=stale; {said}; ttl={int(stored.lifetime - age)}"
        return reply(environ, stored, age, said, find_body)

    def passed(self, environ: Mapping[str, Any], answer: Answer, said: str) -> Answer:
        """Return an answer of the application as it is sent on."""
        dropped = {OWN_FIELD, "date"} if writes_date(environ) else {OWN_FIELD}
        headers = [field for field in answer.headers if field[0].lower() not in dropped]
        headers.append(("Cache-Status", said))
        return replace(answer, headers=headers)

    def _changes(
        self, environ: Mapping[str, Any], target: Target, decision: Decision
    ) -> Mapping[str, str | None]:
        """Return what is asked otherwise than the client did, to store the answer (section 4.3.1)."""
        stored = decision.stored
        if environ["REQUEST_METHOD"] != "GET":
            return {}
        if stored is None:
            alone = decision.reason == "request" or self._flights.is_uncacheable(crowd(target, environ))
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
        profile, fresh = self._profile, validated
        # What it does not name is not what the application has: the next request is to fetch it.
        replaced: dict[Stored, Stored | None] = {validated: None}
        suitable = [stored for stored in variants.responses if stored.matches(target.spelling, environ)]
        for stored in to_update(suitable, validated, fields_of(answer.headers)):
            headers = merge_headers(stored, answer.headers)
            fields = fields_of(headers)
            made = make_stored(
                environ, stored.spelling, stored.status, headers, fields, requested, received, profile
            )
            made = replace(made, body=stored.body, length=stored.length, tags=self._tags(made, target))
            # What states another rule now would be found by the old one.
            moved = self._queries is not None and fields.get(FIELD) != fields_of(stored.headers).get(FIELD)
            reason = why_not_storable(environ, stored.status, fields, received, profile, answer.personal)
            keeps = not moved and not reason and made.useful(received) > 0
            replaced[stored] = made if keeps else None
            if stored == validated:
                fresh = made
        self._store.replace(target.key, replaced, requested)
        return fresh

    def _pass_and_store(
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
        status, fields = int(answer.status[:3]), fields_of(answer.headers)
        said = f"{self._name}; fwd={decision.reason or 'miss'}"
        reason = why_not_storable(environ, status, fields, received, self._profile, answer.personal)
        length = _length(fields)
        if not reason and length is not None and length > self._limit:
            reason = f"{length} bytes are more than {self._limit}"
        stored = None
        if not reason:
            stored = make_stored(
                environ, target.spelling, status, answer.headers, fields, requested, received, self._profile
            )
            reason = "" if stored.useful(received) > 0 else "it would be stale at once"
        if stored is None or reason:
            self._forget(environ, target, decision, status, fields)
            self._land(flight, Verdict.FAILED if status >= 500 else Verdict.UNCACHEABLE)
            if self._detail:
                said += f"; detail={quoted(reason)}"
            return self.passed(environ, answer, said)
        if self._queries is not None:
            target = self._queries.target(environ, self._profile.careful, fields)
            stored = replace(stored, spelling=target.spelling, tags=self._tags(stored, target))
        verdict = self._mark(environ, target, stored, received)
        finish = partial(self._finish, environ, target, stored, requested, flight, verdict)
        leave_out = partial(self._leave_out, environ, target, flight)
        body, tee = answer.body, None
        if not isinstance(body, (list, tuple)):
            body = tee = Tee(body, self._limit, length, finish, leave_out)
        else:
            whole = b"".join(body)
            if len(whole) <= self._limit and length in (None, len(whole)):
                finish(whole)
            else:
                leave_out()
        if status == 200 and not WHOLE.keys().isdisjoint(environ):
            # The client's own conditions are answered from what was stored just now.
            if tee is not None:
                body = tee.drain()
            latest = self._store.find(target.key).choose(target.spelling, environ)
            if latest is not None and latest.received == received:
                made = reply(environ, latest, latest.age, f"{said}; stored", self._store.body)
                if made is not None:
                    return made
        return self.passed(environ, replace(answer, body=body), f"{said}; stored")

    def _finish(
        self,
        environ: Mapping[str, Any],
        target: Target,
        stored: Stored,
        requested: float,
        flight: Flight | None,
        verdict: Verdict,
        body: bytes | None,
    ) -> None:
        """Store a response whose body came to its end; without a body, it did not."""
        outcome = Outcome.REFUSED
        try:
            if body is not None:
                outcome = self._store.put(target, environ, stored, body, requested)
            if outcome is Outcome.KEPT and self._queries is not None:
                self._queries.remember(target, fields_of(stored.headers))
        except Exception:
            logger.exception("a response could not be stored")
        finally:
            if body is None or outcome is Outcome.INVALIDATED:
                verdict = Verdict.GIVEN_UP
            elif outcome is Outcome.REFUSED:
                verdict = Verdict.UNCACHEABLE
            self._land(flight, verdict)

    def _leave_out(self, environ: Mapping[str, Any], target: Target, flight: Flight | None) -> None:
        """Remember that the bodies of a URL cannot be stored: too large, or not as long as they say."""
        self._flights.mark(crowd(target, environ), cacheable=False)
        self._land(flight, Verdict.UNCACHEABLE)

    def _forget(
        self,
        environ: Mapping[str, Any],
        target: Target,
        decision: Decision,
        status: int,
        fields: Mapping[str, list[str]],
    ) -> None:
        """Draw the conclusions from a response that is not stored."""
        if environ["REQUEST_METHOD"] == "HEAD":
            if status == 200 and decision.stored is not None and _is_outdated(decision.stored, fields):
                self._store.remove(target.key, decision.stored)  # section 4.3.5
        elif status < 500 and status not in (206, 304, 416) and not forbids_storing(environ):
            self._flights.mark(crowd(target, environ), cacheable=False)
            if decision.stored is not None:
                self._store.remove(target.key, decision.stored)

    def _mark(self, environ: Mapping[str, Any], target: Target, stored: Stored, now: float) -> Verdict:
        """Remember whether a response answers others, too, and return what those who wait are told."""
        shared = stored.answers_others(now)
        self._flights.mark(crowd(target, environ), cacheable=shared)
        return Verdict.STORED if shared else Verdict.UNCACHEABLE

    def _tags(self, stored: Stored, target: Target) -> tuple[str, ...]:
        return stored.tags if self._queries is None else (*stored.tags, query_tag(target.key))

    def _land(self, flight: Flight | None, verdict: Verdict) -> None:
        if flight is not None:
            self._flights.land(flight, verdict)


def _is_outdated(stored: Stored, fields: Mapping[str, list[str]]) -> bool:
    """Return whether a HEAD shows another version than the one that is stored."""
    length = _length(fields)
    return (
        (length is not None and length != stored.length)
        or ("etag" in fields and fields["etag"][0] != stored.etag)
        or ("last-modified" in fields and fields["last-modified"][0] != stored.last_modified)
    )


def _length(fields: Mapping[str, list[str]]) -> int | None:
    values = fields.get("content-length", [])
    return int(values[0]) if len(values) == 1 and _LENGTH.fullmatch(values[0]) else None
