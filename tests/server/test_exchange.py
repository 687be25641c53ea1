"""One exchange: what of an application is called."""

from __future__ import annotations

from functools import partial
from types import MethodType
from typing import Any

import pytest

from prologue.server.exchange import _function_of


def function(environ: Any, start_response: Any) -> tuple[Any, Any, Any]:
    return None, environ, start_response


class Usual:
    def __call__(self, environ: Any, start_response: Any) -> tuple[Any, Any, Any]:
        return self, environ, start_response


class Derived(Usual):
    pass


class Static:
    @staticmethod
    def __call__(environ: Any, start_response: Any) -> tuple[Any, Any, Any]:
        return None, environ, start_response


class Replaced(Usual):
    """Its instances have another ``__call__``, which a call does not look at."""

    def __init__(self) -> None:
        self.__dict__["__call__"] = MethodType(Usual.__call__, "another")


@pytest.mark.parametrize(
    ("application", "is_method"),
    [
        (function, False),
        (partial(function), False),
        (Usual().__call__, False),
        (Usual(), True),
        (Derived(), True),
        (Static(), False),
        (Replaced(), False),
    ],
)
def test_what_is_called_is_what_a_call_of_the_application_runs(application: Any, is_method: bool) -> None:
    called = _function_of(application)
    assert called(1, 2) == application(1, 2)
    assert (type(called) is MethodType and called is not application) is is_method
