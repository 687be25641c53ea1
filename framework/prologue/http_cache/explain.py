"""The decision about a request, step by step, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from prologue.http_cache.asking import Answer, ask_wsgi, close
from prologue.http_cache.decide import Action, Decision, decide, why_bypass
from prologue.http_cache.engine import Engine
from prologue.http_cache.fields import fields_of
from prologue.http_cache.key import target_of
from prologue.http_cache.refreshing import REFRESH, WITNESS
from prologue.http_cache.storable import make_stored, why_not_storable
from prologue.http_cache.stored import Stored
from prologue.http_cache.structured import OWN_FIELD, directives_of

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["explain"]

_ACTIONS = {
    Action.HIT: "answered from the cache",
    Action.REFRESH: "answered from the cache, stale, and fetched anew in the background",
    Action.FETCH: "the application is asked",
    Action.REFUSE: "refused with 504: only-if-cached, and nothing to answer with",
}


def explain(engine: Engine, environ: dict[str, Any], application: WSGIApplication) -> Iterator[str]:
    """Yield what the cache finds and decides about a request, a line for each step.

    Nothing is stored and nothing is answered. Where the application would be asked, it is.

    Args:
        engine: of the cache.
        environ: the request.
        application: what is asked; it leads to the cache, which stands aside.

    Raises:
        Exception: what the application raises.
    """
    profile = engine.profile
    changes = engine.normal.changes(environ)
    environ = {name: value for name, value in {**environ, **changes}.items() if value is not None}
    yield f"profile    {profile.name}" + (f", ttl {profile.ttl:g} s" if profile.ttl else "")
    for name, value in changes.items():
        yield f"made alike {name}: {'taken away' if value is None else value}"
    reason = why_bypass(environ, profile)
    if reason:
        yield f"bypassed   {reason}: the cache neither answers nor stores"
        return
    target = target_of(environ, profile.careful)
    target, variants = engine.find(environ, target)
    yield f"key        {target.key}"
    yield f"spelling   {target.spelling}"
    now = engine.clock()
    if not variants.responses:
        yield "stored     nothing"
    for stored in variants.responses:
        yield f"stored     {_describe(stored, now, stored.matches(target.spelling, environ))}"
    decision = decide(environ, variants, target.spelling, now, profile)
    yield f"decision   {_ACTIONS[decision.action]}{_why(decision)}"
    if decision.action is not Action.FETCH:
        return
    # Around the outermost cache the last one; the answer of an application that never reached it is its own.
    witness: list[Answer] = []
    passed = ask_wsgi(application, {**environ, REFRESH: explain, WITNESS: witness}, {})
    close(passed.body)
    answer = witness[-1] if witness else passed
    status, fields = int(answer.status[:3]), fields_of(answer.headers)
    yield f"response   {passed.status}"
    for name in (
        OWN_FIELD,
        "cache-control",
        "cdn-cache-control",
        "expires",
        "vary",
        "set-cookie",
        "etag",
        "last-modified",
    ):
        for value in fields.get(name, ()):
            yield f"           {name}: {value}"
    _, targeted = directives_of(fields)
    if targeted:
        yield "           a targeted field counts, Cache-Control and Expires do not"
    reason = why_not_storable(environ, status, fields, now, profile, answer.personal)
    made = make_stored(environ, target.spelling, status, answer.headers, fields, now, now, profile)
    if not reason and made.useful(now) <= 0:
        reason = "it would be stale at once"
    yield f"storing    no: {reason}" if reason else f"storing    yes: {_describe(made, now, True)}"


def _describe(stored: Stored, now: float, matches: bool) -> str:
    age = stored.current_age(now)
    parts = [f"{stored.status}, {age:.0f} s old, fresh for {stored.lifetime:g} s"]
    if stored.validate:
        parts.append("validated before every use")
    if stored.stale_while_revalidate:
        parts.append(f"stale {stored.stale_while_revalidate:g} s longer while it is fetched")
    if stored.stale_if_error:
        parts.append(f"stale {stored.stale_if_error:g} s longer on errors")
    parts += [f"{name}: {value}" for name, value in stored.selecting]
    if stored.tags:
        parts.append(f"tags {' '.join(stored.tags)}")
    return "; ".join(parts) + ("" if matches else " (for other requests)")


def _why(decision: Decision) -> str:
    return f" ({decision.reason})" if decision.reason else ""
