from __future__ import annotations

import logging
from functools import partial

import pytest

from prologue.lifecycle.steps import name_of, run_each


def fail(error: BaseException) -> None:
    raise error


def test_every_step_runs_even_if_others_raise(caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []
    first, second = ValueError("first"), KeyError("second")
    steps = [
        ("one", partial(done.append, "one")),
        ("two", partial(fail, first)),
        ("three", partial(done.append, "three")),
        ("four", partial(fail, second)),
        ("five", partial(done.append, "five")),
    ]

    assert run_each(steps) == [first, second]

    assert done == ["one", "three", "five"]
    assert [record.getMessage() for record in caplog.records] == ["two failed", "four failed"]
    assert {(record.name, record.levelno) for record in caplog.records} == {
        ("prologue.lifecycle", logging.ERROR)
    }
    assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [first, second]


@pytest.mark.parametrize("interruption", [SystemExit(3), KeyboardInterrupt()])
def test_an_interruption_is_raised_after_the_last_step(interruption: BaseException) -> None:
    done: list[str] = []
    steps = [
        ("one", partial(fail, interruption)),
        ("two", partial(fail, ValueError())),
        ("three", partial(fail, GeneratorExit())),
        ("four", partial(done.append, "four")),
    ]

    with pytest.raises(type(interruption)) as raised:
        run_each(steps)

    assert raised.value is interruption
    assert done == ["four"]


def test_functions_are_named_by_their_qualified_name_or_their_repr() -> None:
    assert name_of(fail) == "fail"
    assert name_of([].append) == "list.append"
    assert name_of(partial(fail)).startswith("functools.partial(")
