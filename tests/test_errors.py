"""The error tree: what each error is, and what a caller who knows only builtins catches."""

from __future__ import annotations

import inspect
from http import HTTPStatus

import pytest

from prologue import errors
from prologue.errors import (
    AbortError,
    BodyTooLargeError,
    HTTPError,
    MissingExtraError,
    PrologueError,
    ValidationError,
)

BUILTINS = {
    "ClosedResourceError": RuntimeError,
    "DuplicatedReversedRouteError": ValueError,
    "DuplicatedRouteError": ValueError,
    "EmptySecretKeyError": ValueError,
    "EnvError": ValueError,
    "EnvWrongFormatError": ValueError,
    "HeaderError": ValueError,
    "LazyCycleError": RuntimeError,
    "LeaseError": RuntimeError,
    "LifecycleError": RuntimeError,
    "MissingExtraError": ImportError,
    "PoolClosedError": RuntimeError,
    "PoolFullError": RuntimeError,
    "PoolTimeoutError": TimeoutError,
    "PoolUnavailableError": ConnectionError,
    "RouteBuildError": LookupError,
    "RouteError": ValueError,
    "SettingsError": ValueError,
}


def test_the_public_names_are_sorted_and_complete() -> None:
    defined = [
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and value.__module__ == errors.__name__
    ]
    assert sorted(defined) == errors.__all__


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_in_one_tree_and_documented(name: str) -> None:
    error = getattr(errors, name)
    assert issubclass(error, PrologueError)
    assert error.__doc__
    if name in BUILTINS:
        assert issubclass(error, BUILTINS[name])


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (HTTPError(404), 404, "404 Not Found"),
        (HTTPError(404, "no such user"), 404, "404 Not Found: no such user"),
        (HTTPError(599), 599, "599 unknown status"),
        (AbortError(401), 401, "401 Unauthorized"),
        (
            BodyTooLargeError("over 10 bytes"),
            413,
            f"413 {HTTPStatus(413).phrase}: over 10 bytes",
        ),
        (ValidationError("$.name"), 422, f"422 {HTTPStatus(422).phrase}: $.name"),
    ],
)
def test_an_http_error_says_its_status_and_text(error: HTTPError, status: int, text: str) -> None:
    assert (error.status, str(error)) == (status, text)
    assert error.headers == ()


def test_the_headers_of_an_http_error_are_kept_as_pairs() -> None:
    assert HTTPError(405, headers=[("Allow", "GET")]).headers == (("Allow", "GET"),)


def test_a_missing_extra_says_how_to_install_it() -> None:
    error = MissingExtraError("app.run()", "server")
    assert str(error) == "app.run() needs an optional dependency: pip install 'prologue-wsgi[server]'"
    assert error.extra == "server"
