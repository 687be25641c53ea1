from __future__ import annotations

import threading

import pytest

from prologue.errors import ClosedResourceError, LazyCycleError, LifecycleError
from prologue.lazy import LazyResource
from prologue.lifecycle import Resources
from tests.concurrency import PATIENCE, Task, in_child, pass_gate, run_script, together


def lazy(events: list[str], name: str, *needs: str, resources: Resources | None = None) -> LazyResource[str]:
    """A resource that notes when it opens and closes, and needs others both to open and to close."""

    def note(event: str) -> str:
        for other in needs:
            assert resources is not None
            assert resources[other] == other
        events.append(f"{event} {name}")
        return name

    return LazyResource(lambda: note("open"), close=lambda _: note("close"), name=name)


def test_a_resource_is_opened_on_first_access_only_once() -> None:
    events: list[str] = []
    resources = Resources()
    resources.add("pool", lazy(events, "pool"))
    assert events == []

    assert together(8, lambda _: resources["pool"]) == ["pool"] * 8

    assert events == ["open pool"]


def test_an_error_of_opening_is_not_remembered() -> None:
    outcomes = iter([ValueError("down"), "pool"])

    def open_pool() -> str:
        outcome = next(outcomes)
        if isinstance(outcome, ValueError):
            raise outcome
        return str(outcome)

    resources = Resources()
    resources.add("pool", LazyResource(open_pool))

    with pytest.raises(ValueError, match="down"):
        resources["pool"]
    assert resources["pool"] == "pool"


@pytest.mark.parametrize(("names", "listed"), [([], "none"), (["pool", "index"], "'pool', 'index'")])
def test_an_unknown_name_is_a_key_error_that_lists_the_names(names: list[str], listed: str) -> None:
    resources = Resources()
    for name in names:
        resources.add_ready(name, name, close=repr)

    with pytest.raises(KeyError) as raised:
        resources["pol"]

    assert raised.value.args == (f"no resource 'pol'; there are: {listed}",)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


def test_a_name_is_used_once() -> None:
    resources = Resources()
    resources.add_ready("pool", 1, close=repr)
    with pytest.raises(LifecycleError, match=r"^resource 'pool' is there already"):
        resources.add("pool", lazy([], "pool"))
    assert resources["pool"] == 1


def test_membership_length_and_iteration_open_nothing() -> None:
    events: list[str] = []
    resources = Resources()
    resources.add("a", lazy(events, "a"))
    resources.add("b", lazy(events, "b"))

    assert ("a" in resources, "c" in resources, len(resources), list(resources)) == (
        True,
        False,
        2,
        ["a", "b"],
    )
    assert not resources.close()
    assert events == []


def test_names_may_be_added_while_they_are_iterated() -> None:
    resources = Resources()
    resources.add_ready("a", 1, close=repr)
    for name in resources:
        resources.add_ready(name * 2, 1, close=repr)
    assert list(resources) == ["a", "aa"]


def test_the_repr_shows_the_state_of_each() -> None:
    resources = Resources()
    assert repr(resources) == "<Resources none>"
    resources.add("a", lazy([], "a"))
    resources.add_ready("b", 1, close=repr)
    assert repr(resources) == "<Resources 'a' not open, 'b' open>"
    resources.close()
    assert repr(resources) == "<Resources 'a' closed, 'b' closed>"


@pytest.mark.parametrize("order", ["abc", "cab", "bca"])
def test_closing_reverses_the_order_of_opening(order: str) -> None:
    events: list[str] = []
    resources = Resources()
    for name in "abc":
        resources.add(name, lazy(events, name))
    for name in order:
        resources[name]
    events.clear()

    assert resources.close() == []

    assert events == [f"close {name}" for name in reversed(order)]


def test_a_resource_can_use_while_it_closes_what_it_needed_to_open() -> None:
    events: list[str] = []
    resources = Resources()
    resources.add("index", lazy(events, "index", "store", resources=resources))
    resources.add("store", lazy(events, "store", "pool", resources=resources))
    resources.add("pool", lazy(events, "pool"))

    resources["index"]
    assert resources.close() == []

    assert events == [
        *("open pool", "open store", "open index"),
        *("close index", "close store", "close pool"),
    ]


def test_a_resource_opened_directly_takes_its_place_in_the_order() -> None:
    events: list[str] = []
    resources = Resources()
    pool = lazy(events, "pool")
    resources.add("index", lazy(events, "index"))
    resources.add("pool", pool)

    pool.get()
    resources["index"]
    resources.close()

    assert events == ["open pool", "open index", "close index", "close pool"]


def test_a_ready_resource_counts_as_opened_when_it_is_added() -> None:
    events: list[str] = []
    resources = Resources()
    resources.add("first", lazy(events, "first"))
    resources.add("last", lazy(events, "last"))
    resources["first"]
    resources.add_ready("ready", "value", close=lambda value: events.append(f"close {value}"))
    assert resources["ready"] == "value"
    resources["last"]

    resources.close()

    assert events == ["open first", "open last", "close last", "close value", "close first"]


def test_each_is_closed_even_if_another_fails(caplog: pytest.LogCaptureFixture) -> None:
    closed: list[int] = []

    def close(number: int) -> None:
        closed.append(number)
        if number != 2:
            raise ValueError(number)

    resources = Resources()
    for number in (1, 2, 3):
        resources.add_ready(str(number), number, close)

    errors = resources.close()

    assert closed == [3, 2, 1]
    assert [error.args for error in errors] == [(3,), (1,)]
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["closing resource '3' failed", "closing resource '1' failed"]


def test_closing_twice_closes_once() -> None:
    events: list[str] = []
    resources = Resources()
    resources.add("pool", lazy(events, "pool"))
    resources.add_ready("ready", "value", close=lambda value: events.append(f"close {value}"))
    resources["pool"]

    together(4, lambda _: resources.close())
    assert resources.close() == []

    assert events == ["open pool", "close pool", "close value"]


def test_after_closing_access_is_an_error_that_names_the_resource() -> None:
    resources = Resources()
    unopened = lazy([], "loader_name")
    resources.add("index", unopened)
    resources.add_ready("ready", "value", close=repr)
    resources.close()

    for name in ("index", "ready"):
        with pytest.raises(ClosedResourceError, match=rf"^resource '{name}' is closed"):
            resources[name]
    with pytest.raises(ClosedResourceError, match="'loader_name'"):
        unopened.get()
    with pytest.raises(LifecycleError, match=r"^resource 'late' comes too late"):
        resources.add("late", lazy([], "late"))


def test_an_opening_in_progress_at_the_closing_is_closed_by_its_own_thread() -> None:
    closed: list[str] = []
    begun, gate = threading.Event(), threading.Event()

    def open_slowly() -> str:
        begun.set()
        pass_gate(gate)
        return "pool"

    resources = Resources()
    resources.add("pool", LazyResource(open_slowly, close=closed.append))
    task = Task(lambda: resources["pool"])
    pass_gate(begun)

    assert resources.close() == []
    assert closed == []
    gate.set()

    assert isinstance(task.error(), ClosedResourceError)
    assert closed == ["pool"]


def test_a_circle_of_resources_is_an_error_that_names_it() -> None:
    resources = Resources()
    resources.add("a", LazyResource(lambda: resources["b"], name="a"))
    resources.add("b", LazyResource(lambda: resources["a"], name="b"))
    with pytest.raises(LazyCycleError, match=r"^a needs b needs a: "):
        resources["a"]


# --- Fork -------------------------------------------------------------------------------------------------


def test_a_child_opens_its_own_and_leaves_the_parents_unclosed() -> None:
    events: list[str] = []
    resources = Resources()
    resources.add("a", lazy(events, "a"))
    resources.add("b", lazy(events, "b"))
    resources["a"]

    def child() -> object:
        state = repr(resources)
        resources["b"], resources["a"]
        resources.close()
        return state, events

    assert in_child(child) == [
        "<Resources 'a' not open, 'b' not open>",
        ["open a", "open b", "open a", "close a", "close b"],
    ]
    assert events == ["open a"]


def test_closing_in_the_parent_does_not_close_for_a_later_child() -> None:
    events: list[str] = []
    resources = Resources()
    resources.add("a", lazy(events, "a"))
    resources["a"]
    resources.close()

    def child() -> object:
        resources.add_ready("late", "value", close=repr)
        return resources["a"], resources["late"]

    assert in_child(child) == ["a", "value"]


@pytest.mark.parametrize(("used", "closed"), [(False, []), (True, ["value"])])
def test_a_child_closes_a_ready_resource_only_if_it_used_it(used: bool, closed: list[str]) -> None:
    seen: list[str] = []
    resources = Resources()
    resources.add_ready("ready", "value", close=seen.append)

    def child() -> object:
        if used:
            resources["ready"]
        resources.close()
        return seen

    assert in_child(child) == closed


def test_a_ready_resource_takes_its_place_in_the_childs_order_at_its_first_access() -> None:
    events: list[str] = []
    resources = Resources()
    resources.add_ready("ready", "value", close=lambda value: events.append(f"close {value}"))
    resources.add("a", lazy(events, "a"))

    def child() -> object:
        resources["ready"], resources["a"], resources["ready"]
        resources.close()
        return events

    assert in_child(child) == ["open a", "close a", "close value"]


def test_a_lock_held_at_the_fork_is_free_in_the_child() -> None:
    resources = Resources()
    held, gate = threading.Event(), threading.Event()

    def hold() -> None:
        with resources._lock:
            held.set()
            pass_gate(gate)

    task = Task(hold)
    pass_gate(held)
    try:
        assert in_child(lambda: resources._lock.acquire(timeout=PATIENCE)) is True
    finally:
        gate.set()
        task.result()


def test_the_end_of_a_child_leaves_the_parents_connection_unclosed() -> None:
    # The server program ends the child with sys.exit: neither shutdown nor a finalizer may say farewell.
    script = """if True:
        import os, sys
        from prologue.lazy import LazyResource
        from prologue.lifecycle import Lifecycle

        class Connection:
            def close(self, write=os.write):
                write(1, b"farewell\\n")
            __del__ = close

        lifecycle = Lifecycle()
        lifecycle.resources.add("connection", LazyResource(Connection, close=Connection.close))
        lifecycle.resources["connection"]
        lifecycle.startup()
        if (child := os.fork()) == 0:
            sys.exit()
        assert os.waitpid(child, 0)[1] == 0
        os.write(1, b"parent\\n")
        lifecycle.shutdown()
        os._exit(0)
    """
    assert run_script(script) == "parent\nfarewell\nfarewell\n"
