from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import assert_type

import pytest

from prologue.errors import ClosedResourceError, LazyCycleError, LifecycleError
from prologue.lazy import LazyResource
from prologue.lifecycle import single_flight
from tests.concurrency import (
    PATIENCE,
    Task,
    impatient_threads,
    in_child,
    pass_gate,
    run_script,
    together,
    until_waiting,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Loader:
    """Loads 1, 2, 3, …; raises the errors it was given first; stops at the gate if it has one."""

    def __init__(self, *errors: BaseException, gate: threading.Event | None = None) -> None:
        self.errors = list(errors)
        self.gate = gate
        self.begun = threading.Event()
        self.loads = 0

    def __call__(self) -> int:
        self.loads += 1
        load = self.loads
        self.begun.set()
        if self.gate is not None:
            pass_gate(self.gate)
        if self.errors:
            raise self.errors.pop(0)
        return load


# --- Loading ----------------------------------------------------------------------------------------------


def test_the_loader_runs_on_the_first_get_only() -> None:
    loader = Loader()
    resource = LazyResource(loader)
    assert (loader.loads, resource.initialized) == (0, False)
    assert [resource.get(), resource.get()] == [1, 1]
    assert (loader.loads, resource.initialized) == (1, True)


@pytest.mark.parametrize("ttl", [None, 60.0])
def test_none_is_a_value(ttl: float | None) -> None:
    loads: list[None] = []
    resource = LazyResource(lambda: loads.append(None), ttl=ttl)
    assert [resource.get(), resource.get()] == [None, None]
    assert resource.initialized
    assert len(loads) == 1


@pytest.mark.parametrize("ttl", [None, 60.0])
def test_the_loader_runs_once_whatever_the_number_of_threads(ttl: float | None) -> None:
    with impatient_threads():
        for _ in range(15):
            loader = Loader()
            resource = LazyResource(loader, ttl=ttl)
            assert together(8, lambda _, resource=resource: resource.get()) == [1] * 8  # type: ignore[misc]
            assert loader.loads == 1


def test_a_failure_reaches_every_waiting_thread_and_the_next_call_tries_again() -> None:
    failure, gate = ValueError("no"), threading.Event()
    loader = Loader(failure, gate=gate)
    resource = LazyResource(loader)
    tasks = [Task(resource.get) for _ in range(4)]
    until_waiting(3)
    gate.set()

    assert [task.error() for task in tasks] == [failure] * 4
    assert loader.loads == 1
    assert not resource.initialized
    assert resource.get() == 2


@pytest.mark.parametrize("interruption", [SystemExit(1), KeyboardInterrupt()])
def test_an_interruption_ends_the_loading_thread_and_a_waiting_one_loads(interruption: BaseException) -> None:
    gate = threading.Event()
    loader = Loader(interruption, gate=gate)
    resource = LazyResource(loader)
    first = Task(resource.get)
    pass_gate(loader.begun)
    others = [Task(resource.get) for _ in range(3)]
    until_waiting(3)
    gate.set()

    assert first.error() is interruption
    assert [task.result() for task in others] == [2] * 3


def test_after_the_first_load_get_takes_no_lock() -> None:
    resource = LazyResource(Loader())
    resource.get()
    with resource._flight.lock:
        assert Task(resource.get).result() == 1


def test_a_value_with_a_lifetime_is_read_without_a_lock_too() -> None:
    resource = LazyResource(Loader(), ttl=60)
    resource.get()
    with resource._flight.lock:
        assert Task(resource.get).result() == 1


# --- Circles ----------------------------------------------------------------------------------------------


def test_a_loader_that_needs_itself_through_others_is_an_error_that_names_the_circle() -> None:
    a: LazyResource[int] = LazyResource(lambda: b.get(), name="a")
    b: LazyResource[int] = LazyResource(lambda: c.get(), name="b")
    c: LazyResource[int] = LazyResource(lambda: a.get(), name="c")
    for resource, circle in ((a, "a needs b needs c needs a"), (c, "c needs a needs b needs c")):
        with pytest.raises(LazyCycleError, match=f"^{circle}: "):
            resource.get()
        assert not resource.initialized


def test_a_circle_across_threads_is_an_error_and_not_a_deadlock() -> None:
    both = threading.Barrier(2)

    def load(other: Callable[[], LazyResource[int]]) -> int:
        if not both.broken and both.n_waiting < 2:
            both.wait(PATIENCE)
        return other().get()

    a: LazyResource[int] = LazyResource(lambda: load(lambda: b), name="a")
    b: LazyResource[int] = LazyResource(lambda: load(lambda: a), name="b")
    tasks = [Task(a.get), Task(b.get)]

    for task in tasks:
        error = task.error()
        assert isinstance(error, LazyCycleError)
        assert str(error).partition(":")[0] in ("a needs b needs a", "b needs a needs b")


# --- Reset and close --------------------------------------------------------------------------------------


def test_reset_closes_the_value_and_the_next_get_loads_again() -> None:
    closed: list[int] = []
    resource = LazyResource(Loader(), close=closed.append)
    resource.reset()
    assert closed == []
    resource.get()

    resource.reset()

    assert (closed, resource.initialized) == ([1], False)
    assert resource.get() == 2
    assert closed == [1]


def test_simultaneous_resets_close_each_value_once() -> None:
    with impatient_threads():
        closed: list[int] = []
        loader = Loader()
        resource = LazyResource(loader, close=closed.append)

        def use(number: int) -> None:
            for _ in range(30):
                resource.get()
                resource.reset()

        together(4, use)
        assert sorted(closed) == list(range(1, loader.loads + 1))


def test_a_load_overtaken_by_reset_is_closed_and_nobody_gets_its_value() -> None:
    closed: list[int] = []
    gate = threading.Event()
    loader = Loader(gate=gate)
    resource = LazyResource(loader, close=closed.append)
    tasks = [Task(resource.get) for _ in range(3)]
    until_waiting(2)

    resource.reset()
    gate.set()

    assert [task.result() for task in tasks] == [2] * 3
    assert closed == [1]
    assert resource.get() == 2


def test_a_loader_that_resets_its_own_resource_is_an_error() -> None:
    resource: LazyResource[None] = LazyResource(lambda: resource.reset(), name="own")
    with pytest.raises(LifecycleError, match="'own'"):
        resource.get()


def test_a_loader_may_reset_another_resource() -> None:
    other = LazyResource(Loader())
    other.get()
    resource = LazyResource(other.reset)
    assert resource.get() is None
    assert not other.initialized


def test_close_closes_the_value_once_and_get_is_an_error_that_names_the_resource() -> None:
    closed: list[int] = []
    resource = LazyResource(Loader(), close=closed.append, name="index")
    resource.get()

    resource.close()
    resource.close()
    resource.reset()

    assert (closed, resource.initialized) == ([1], False)
    with pytest.raises(ClosedResourceError, match="'index' is closed"):
        resource.get()


def test_closing_what_was_never_loaded_keeps_it_from_loading() -> None:
    loader = Loader()
    resource = LazyResource(loader)
    resource.close()
    with pytest.raises(ClosedResourceError):
        resource.get()
    assert loader.loads == 0


def test_a_load_in_progress_at_close_is_closed_and_its_threads_get_the_error() -> None:
    closed: list[int] = []
    gate = threading.Event()
    resource = LazyResource(Loader(gate=gate), close=closed.append)
    tasks = [Task(resource.get) for _ in range(3)]
    until_waiting(2)

    resource.close()
    assert closed == []
    gate.set()

    assert [type(task.error()) for task in tasks] == [ClosedResourceError] * 3
    assert closed == [1]


def test_an_error_of_closing_reaches_the_caller_and_the_value_is_forgotten_all_the_same() -> None:
    closed: list[int] = []

    def close(value: int) -> None:
        closed.append(value)
        raise ValueError(value)

    resource = LazyResource(Loader(), close=close)
    resource.get()
    with pytest.raises(ValueError, match="1"):
        resource.reset()
    assert resource.get() == 2
    with pytest.raises(ValueError, match="2"):
        resource.close()
    resource.close()
    assert closed == [1, 2]


def test_an_error_of_closing_an_overtaken_value_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def close(value: int) -> None:
        raise ValueError(value)

    gate = threading.Event()
    loader = Loader(gate=gate)
    resource = LazyResource(loader, close=close, name="index")
    task = Task(resource.get)
    pass_gate(loader.begun)
    resource.reset()
    gate.set()

    assert task.result() == 2
    assert ["'index'" in record.getMessage() for record in caplog.records] == [True]


def test_close_runs_without_a_lock() -> None:
    resource: LazyResource[int] = LazyResource(Loader(), close=lambda _: resource.get())
    resource.get()
    resource.reset()
    assert resource.get() == 2


# --- Lifetime ---------------------------------------------------------------------------------------------


def test_a_value_is_loaded_again_after_its_lifetime_and_the_old_one_closed_then() -> None:
    clock, closed = Clock(), list[int]()
    resource = LazyResource(Loader(), close=closed.append, ttl=60, clock=clock)
    assert resource.get() == 1
    clock.now += 59.9
    assert (resource.get(), resource.initialized) == (1, True)
    clock.now += 0.1
    assert (resource.initialized, closed) == (False, [])
    assert resource.get() == 2
    assert closed == [1]
    clock.now += 59.9
    assert resource.get() == 2
    clock.now += 0.1
    assert resource.get() == 3
    assert closed == [1, 2]


def test_the_lifetime_counts_from_the_end_of_loading() -> None:
    clock = Clock()

    def load_slowly() -> float:
        clock.now += 50
        return clock.now

    resource = LazyResource(load_slowly, ttl=60, clock=clock)
    first = resource.get()
    clock.now += 59
    assert resource.get() == first


def test_without_a_lifetime_the_value_stays() -> None:
    clock = Clock()
    resource = LazyResource(Loader(), clock=clock)
    resource.get()
    clock.now += 1e12
    assert (resource.get(), resource.initialized) == (1, True)


def test_without_a_lifetime_get_does_not_look_at_the_clock() -> None:
    looks: list[str] = []

    def clock() -> float:
        looks.append("look")
        return 0.0

    resource = LazyResource(Loader(), clock=clock)
    resource.get()
    looks.clear()
    assert (resource.get(), looks) == (1, [])


def test_one_thread_reloads_and_the_others_wait_for_the_new_value() -> None:
    clock, gate = Clock(), threading.Event()
    loader = Loader()
    resource = LazyResource(loader, ttl=60, clock=clock)
    resource.get()
    clock.now += 60
    loader.gate = gate
    tasks = [Task(resource.get) for _ in range(4)]
    until_waiting(3)
    gate.set()
    assert [task.result() for task in tasks] == [2] * 4


def test_waiting_threads_get_the_value_even_if_its_lifetime_is_over_when_they_wake() -> None:
    clock, gate = Clock(), threading.Event()
    loader = Loader(gate=gate)

    def tick() -> float:  # every look at the clock lasts longer than the value
        clock.now += 2
        return clock.now

    resource = LazyResource(loader, ttl=1, clock=tick)
    tasks = [Task(resource.get) for _ in range(4)]
    until_waiting(3)
    gate.set()
    assert [task.result() for task in tasks] == [1] * 4


def test_a_failed_reload_reaches_the_waiting_threads_and_the_next_call_tries_again() -> None:
    clock, gate, closed, failure = Clock(), threading.Event(), list[int](), ValueError("no")
    loader = Loader()
    resource = LazyResource(loader, close=closed.append, ttl=60, clock=clock)
    resource.get()
    clock.now += 60
    loader.gate, loader.errors = gate, [failure]
    tasks = [Task(resource.get) for _ in range(3)]
    until_waiting(2)
    gate.set()

    assert [task.error() for task in tasks] == [failure] * 3
    assert closed == []
    assert resource.get() == 3
    assert closed == [1]


def test_reset_during_a_reload_closes_the_old_value_and_the_overtaken_one() -> None:
    clock, gate, closed = Clock(), threading.Event(), list[int]()
    loader = Loader()
    resource = LazyResource(loader, close=closed.append, ttl=60, clock=clock)
    resource.get()
    clock.now += 60
    loader.gate = gate
    loader.begun.clear()
    task = Task(resource.get)
    pass_gate(loader.begun)

    resource.reset()
    assert closed == [1]
    gate.set()

    assert task.result() == 3
    assert closed == [1, 2]


def test_an_expired_value_is_closed_at_close() -> None:
    clock, closed = Clock(), list[int]()
    resource = LazyResource(Loader(), close=closed.append, ttl=60, clock=clock)
    resource.get()
    clock.now += 60
    resource.close()
    assert closed == [1]


def test_an_error_of_closing_a_replaced_value_is_logged_and_the_new_value_returned(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def close(value: int) -> None:
        raise ValueError(value)

    clock = Clock()
    resource = LazyResource(Loader(), close=close, ttl=60, clock=clock, name="index")
    resource.get()
    clock.now += 60
    assert resource.get() == 2
    assert ["'index'" in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize("ttl", [0, -1, float("nan")])
def test_a_lifetime_that_is_not_above_zero_is_an_error(ttl: float) -> None:
    with pytest.raises(ValueError, match=f"^ttl must be above 0 seconds, not {ttl}"):
        LazyResource(Loader(), ttl=ttl)


# --- Order, names, types ----------------------------------------------------------------------------------


def test_opened_numbers_follow_the_order_of_loading_and_end_with_the_value() -> None:
    clock = Clock()
    first, second = LazyResource(Loader(), ttl=60, clock=clock), LazyResource(Loader())
    assert (first.opened, second.opened) == (None, None)
    first.get()
    second.get()
    number = first.opened
    assert number is not None
    assert second.opened is not None
    assert number < second.opened

    # A reload keeps the place: what needed the old value needs the new one as much.
    clock.now += 60
    first.get()
    assert first.opened == number

    first.reset()
    assert first.opened is None
    first.get()
    assert first.opened is not None
    assert first.opened > second.opened
    first.close()
    assert first.opened is None


def test_the_name_is_given_or_the_loaders() -> None:
    def load_index() -> int:
        return 1

    assert LazyResource(load_index, name="index").name == "index"
    assert LazyResource(load_index).name.endswith("load_index")
    assert LazyResource(partial(load_index)).name.startswith("functools.partial(")


def test_the_repr_shows_the_state() -> None:
    resource = LazyResource(Loader(), name="index")
    states = [repr(resource)]
    resource.get()
    states.append(repr(resource))
    resource.close()
    states.append(repr(resource))
    assert states == [
        "<LazyResource 'index' not initialized>",
        "<LazyResource 'index' initialized>",
        "<LazyResource 'index' closed>",
    ]


def test_the_type_of_the_value_is_the_loaders() -> None:
    resource = LazyResource(lambda: "text", close=lambda value: assert_type(value, str))
    assert_type(resource, LazyResource[str])
    assert_type(resource.get(), str)


# --- Fork -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ttl", [None, 60.0])
def test_a_child_loads_its_own_value_and_the_parents_stays_unclosed(ttl: float | None) -> None:
    closed: list[int] = []
    resource = LazyResource(Loader(), close=closed.append, ttl=ttl)
    resource.get()

    def child() -> object:
        fresh = (resource.initialized, resource.opened, closed.copy())
        value = resource.get()
        resource.close()
        return fresh, value, closed

    assert in_child(child) == [[False, None, []], 2, [2]]
    assert (resource.get(), closed) == (1, [])


def test_a_child_of_a_process_that_closed_it_starts_over() -> None:
    resource = LazyResource(Loader())
    resource.close()
    assert in_child(resource.get) == 1


def test_the_parents_value_is_not_finalized_in_the_child() -> None:
    class Connection:
        def __del__(self) -> None:
            finalized.append("connection")

    finalized: list[str] = []
    resource = LazyResource(Connection)
    resource.get()
    assert in_child(lambda: (resource.initialized, finalized)) == [False, []]


def test_a_load_in_progress_in_another_thread_is_not_the_childs() -> None:
    gate = threading.Event()
    loader = Loader(gate=gate)
    resource = LazyResource(loader)
    tasks = [Task(resource.get) for _ in range(2)]
    until_waiting(1)

    def child() -> object:
        loader.gate = None
        return resource.get()

    assert in_child(child) == 2
    gate.set()
    assert [task.result() for task in tasks] == [1, 1]


def test_a_lock_held_at_the_fork_is_free_in_the_child() -> None:
    resource = LazyResource(Loader())
    held, gate = threading.Event(), threading.Event()

    def hold() -> None:
        with resource._flight.lock:
            held.set()
            pass_gate(gate)

    task = Task(hold)
    pass_gate(held)
    try:
        assert in_child(resource.get) == 1
    finally:
        gate.set()
        task.result()


def test_a_loader_that_forks_goes_on_in_the_child() -> None:
    script = """if True:
        import os
        from prologue.lazy import LazyResource

        def load():
            child = os.fork()
            if child:
                assert os.waitpid(child, 0)[1] == 0
            return "parent" if child else "child"

        resource = LazyResource(load)
        os.write(1, f"{resource.get()} {resource.get()}\\n".encode())
    """
    assert run_script(script) == "child child\nparent parent\n"


@pytest.fixture(autouse=True)
def _nobody_is_left_waiting() -> Iterator[None]:
    yield
    assert single_flight.wait_graph._waiting == {}
    assert single_flight.wait_graph._executing == {}
