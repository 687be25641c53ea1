from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest

from prologue.errors import LazyCycleError
from prologue.lifecycle import MISSING, Missing, SingleFlight
from prologue.lifecycle import single_flight as module
from tests.concurrency import (
    PATIENCE,
    Task,
    impatient_threads,
    in_child,
    pass_gate,
    together,
    until,
    until_waiting,
)


class Store:
    """The least an owner of a flight has: one value for each key, and a count of what happened."""

    def __init__(self, name: str = "store") -> None:
        self.name = name
        self.flight: SingleFlight[object] = SingleFlight()
        self.values: dict[str, object] = {}
        self.asked = threading.Semaphore(0)
        self.discarded: list[object] = []

    def get(self, make: Callable[[], object], key: str = "key") -> object:
        return self.flight.run(
            key,
            self.name,
            find=lambda: self.find(key),
            make=make,
            keep=lambda value: self.values.__setitem__(key, value),
            discard=self.discarded.append,
        )

    def find(self, key: str) -> object | Missing:
        # Whoever releases this holds the lock, and joins the run in progress before it gives the lock back.
        self.asked.release()
        return self.values.get(key, MISSING)

    def forget(self, key: str = "key") -> None:
        with self.flight.lock:
            self.values.pop(key, None)
            self.flight.forget(key)


@pytest.fixture(autouse=True)
def _nothing_is_left_in_the_wait_graph() -> Iterator[None]:
    yield
    assert module.wait_graph._waiting == {}
    assert module.wait_graph._executing == {}


def test_one_thread_makes_the_value_and_all_get_it() -> None:
    with impatient_threads():
        for _ in range(15):
            store = Store()
            made: list[object] = []

            def make(made: list[object] = made) -> object:
                made.append(object())
                return made[-1]

            values = together(8, lambda _, store=store, make=make: store.get(make))  # type: ignore[misc]

            assert len(made) == 1
            assert all(value is made[0] for value in values)


def test_threads_that_ask_during_the_run_wait_for_it() -> None:
    store, gate = Store(), threading.Event()

    def make() -> object:
        pass_gate(gate)
        return "value"

    tasks = [Task(lambda: store.get(make)) for _ in range(4)]
    for _ in tasks:
        store.asked.acquire()
    until_waiting(3)
    gate.set()

    assert [task.result() for task in tasks] == ["value"] * 4


def test_none_is_a_value() -> None:
    store = Store()
    assert store.get(lambda: None) is None
    assert store.get(lambda: "another") is None


def test_keys_are_made_in_parallel() -> None:
    store, both = Store(), threading.Barrier(2)

    def make() -> object:
        return both.wait(PATIENCE) >= 0

    assert together(2, lambda number: store.get(make, key=str(number))) == [True, True]


def test_a_failure_reaches_every_waiting_thread_and_is_not_remembered() -> None:
    store, gate, failure = Store(), threading.Event(), ValueError("no")

    def fail() -> object:
        pass_gate(gate)
        raise failure

    tasks = [Task(lambda: store.get(fail)) for _ in range(4)]
    for _ in tasks:
        store.asked.acquire()
    gate.set()

    assert [task.error() for task in tasks] == [failure] * 4
    assert store.get(lambda: "value") == "value"


def test_the_traceback_of_a_shared_failure_does_not_grow_with_the_waiting_threads() -> None:
    store, gate = Store(), threading.Event()

    def fail() -> object:
        pass_gate(gate)
        raise ValueError("no")

    tasks = [Task(lambda: store.get(fail)) for _ in range(20)]
    for _ in tasks:
        store.asked.acquire()
    gate.set()

    error = {task.error() for task in tasks}.pop()
    traceback, length = error.__traceback__ if error else None, 0
    while traceback is not None:
        traceback, length = traceback.tb_next, length + 1
    assert length < 20


@pytest.mark.parametrize("interruption", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_an_interruption_ends_its_own_thread_only_and_another_makes_the_value(
    interruption: BaseException,
) -> None:
    store, gate = Store(), threading.Event()

    def be_interrupted() -> object:
        pass_gate(gate)
        raise interruption

    first = Task(lambda: store.get(be_interrupted))
    store.asked.acquire()
    others = [Task(lambda: store.get(lambda: "value")) for _ in range(3)]
    for _ in others:
        store.asked.acquire()
    gate.set()

    assert first.error() is interruption
    assert [task.result() for task in others] == ["value"] * 3


def test_an_interruption_before_the_run_has_begun_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store()

    def interrupt(run: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module._WaitGraph, "enter", lambda graph, run: interrupt(run))
        with pytest.raises(KeyboardInterrupt):
            store.get(lambda: "value")

    assert store.get(lambda: "value") == "value"


def test_an_error_of_find_is_raised_and_nothing_is_made() -> None:
    flight: SingleFlight[object] = SingleFlight()

    def find() -> object:
        raise LookupError("closed")

    for _ in range(2):
        with pytest.raises(LookupError, match="closed"):
            flight.run("key", "name", find=find, make=object, keep=print, discard=print)


@pytest.mark.parametrize("waiters", [0, 3])
def test_a_failure_frees_what_its_frames_held_without_the_cycle_collector(waiters: int) -> None:
    class Held:
        pass

    store, gate = Store(), threading.Event()
    references: list[weakref.ref[Held]] = []

    def fail() -> object:
        held = Held()
        references.append(weakref.ref(held))
        pass_gate(gate)
        raise ValueError("no")

    def get() -> None:
        with pytest.raises(ValueError, match="no"):
            store.get(fail)

    gc.disable()
    try:
        tasks = [Task(get) for _ in range(waiters + 1)]
        for _ in tasks:
            store.asked.acquire()
        gate.set()
        for task in tasks:
            task.result()
        until(lambda: references[0]() is None)
    finally:
        gc.enable()


def test_a_run_overtaken_by_forget_is_discarded_and_made_again() -> None:
    store, gate = Store(), threading.Event()
    values = iter(["old", "new"])

    def make() -> object:
        value = next(values)
        if value == "old":
            pass_gate(gate)
        return value

    tasks = [Task(lambda: store.get(make)) for _ in range(3)]
    for _ in tasks:
        store.asked.acquire()
    store.forget()
    gate.set()

    assert [task.result() for task in tasks] == ["new"] * 3
    assert store.discarded == ["old"]
    assert store.values == {"key": "new"}


def test_a_run_begun_after_forget_does_not_wait_for_the_overtaken_one() -> None:
    store, gate = Store(), threading.Event()

    def make_old() -> object:
        pass_gate(gate)
        return "old"

    task = Task(lambda: store.get(make_old))
    store.asked.acquire()
    store.forget()

    assert store.get(lambda: "new") == "new"
    gate.set()
    assert task.result() == "new"
    assert store.discarded == ["old"]


def test_the_end_of_an_overtaken_run_does_not_disturb_the_next_one() -> None:
    store, old_gate, new_gate = Store(), threading.Event(), threading.Event()
    made: list[str] = []

    def make(value: str, gate: threading.Event) -> object:
        made.append(value)
        pass_gate(gate)
        return value

    old = Task(lambda: store.get(lambda: make("old", old_gate)))
    store.asked.acquire()
    store.forget()
    new = Task(lambda: store.get(lambda: make("new", new_gate)))
    store.asked.acquire()
    old_gate.set()
    store.asked.acquire()  # the old one asks again, and finds the new run
    new_gate.set()

    assert (old.result(), new.result()) == ("new", "new")
    assert (made, store.discarded) == (["old", "new"], ["old"])


def test_leads_tells_the_thread_that_makes_the_value() -> None:
    store, gate = Store(), threading.Event()

    def make() -> object:
        pass_gate(gate)
        return store.flight.leads("key"), store.flight.leads("other")

    task = Task(lambda: store.get(make))
    store.asked.acquire()
    assert not store.flight.leads("key")
    gate.set()
    assert task.result() == (True, False)
    assert not store.flight.leads("key")


# --- Circles ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "circle"),
    [
        ("a", "a needs a"),
        ("ab", "a needs b needs a"),
        ("abcd", "a needs b needs c needs d needs a"),
    ],
)
def test_a_circle_in_one_thread_is_an_error_that_names_it(names: str, circle: str) -> None:
    stores = {name: Store(name) for name in names}

    def make(name: str) -> Callable[[], object]:
        following = names[(names.index(name) + 1) % len(names)]
        return lambda: stores[following].get(make(following))

    for name in names:
        at = names.index(name)
        rotated = " needs ".join([*names[at:], *names[:at], name])
        with pytest.raises(LazyCycleError, match=f"^{rotated}: "):
            stores[name].get(make(name))
    assert " needs ".join([*names, names[0]]) == circle
    assert stores["a"].get(lambda: "value") == "value"


def test_a_circle_names_only_what_is_in_it() -> None:
    a, b, c = Store("a"), Store("b"), Store("c")

    def make_c() -> object:
        return b.get(lambda: "never")

    with pytest.raises(LazyCycleError, match=r"^b needs c needs b: "):
        a.get(lambda: b.get(lambda: c.get(make_c)))


def test_a_circle_does_not_name_what_was_finished_on_the_way() -> None:
    outer, mid, finished = Store("outer"), Store("mid"), Store("finished")

    def make_mid() -> object:
        finished.get(lambda: "value")
        return outer.get(lambda: "unused")

    with pytest.raises(LazyCycleError, match=r"^outer needs mid needs outer: "):
        outer.get(lambda: mid.get(make_mid))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_circle_across_threads_is_an_error_and_not_a_deadlock(count: int) -> None:
    with impatient_threads():
        for _ in range(10):
            stores = [Store(str(number)) for number in range(count)]
            begun = threading.Barrier(count)

            def get(number: int, stores: list[Store] = stores, begun: threading.Barrier = begun) -> str:
                def make() -> object:
                    begun.wait(PATIENCE)  # every thread has begun its own value before any asks for the next
                    return stores[(number + 1) % count].get(lambda: "unused")

                with pytest.raises(LazyCycleError) as raised:
                    stores[number].get(make)
                return str(raised.value).partition(":")[0]

            # One thread finds the circle; its failure is the failure of those who wait for it.
            (circle,) = set(together(count, get))
            first = int(circle.split(" needs ")[0])
            assert circle == " needs ".join(str((first + step) % count) for step in range(count + 1))


def test_a_circle_across_threads_names_what_each_thread_began_on_the_way() -> None:
    a, b, outer, inner = Store("a"), Store("b"), Store("outer"), Store("inner")
    begun = threading.Barrier(2)

    def make_a() -> object:
        return outer.get(lambda: inner.get(lambda: (begun.wait(PATIENCE), b.get(lambda: "unused"))))

    def make_b() -> object:
        begun.wait(PATIENCE)
        until_waiting(1)
        return a.get(lambda: "unused")

    first, second = Task(lambda: a.get(make_a)), Task(lambda: b.get(make_b))

    error = second.error()
    assert isinstance(error, LazyCycleError)
    assert str(error).startswith("a needs outer needs inner needs b needs a: ")
    assert first.error() is error


def test_values_that_need_the_same_third_are_no_circle() -> None:
    shared, both = Store("shared"), threading.Barrier(2)
    stores = [Store("a"), Store("b")]

    def make_shared() -> object:
        until_waiting(1)
        return "value"

    def get(number: int) -> object:
        def make() -> object:
            both.wait(PATIENCE)
            return shared.get(make_shared)

        return stores[number].get(make)

    assert together(2, get) == ["value", "value"]


def test_a_thread_may_ask_another_for_a_value_that_it_has_finished() -> None:
    # The waiting thread may not have woken yet: what it waited for is finished, and it waits no more.
    a, b = Store("a"), Store("b")
    with impatient_threads():
        for _ in range(30):
            a.forget()
            b.forget()
            both = threading.Barrier(2)

            def first(both: threading.Barrier = both) -> object:
                a.get(lambda: both.wait(PATIENCE))
                return b.get(lambda: "b")

            def second(both: threading.Barrier = both) -> object:
                return b.get(lambda: (both.wait(PATIENCE), a.get(lambda: "a"))[1])

            tasks = [Task(first), Task(second)]
            for task in tasks:
                task.result()


def test_an_interrupted_wait_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    store, gate = Store(), threading.Event()

    def make() -> object:
        pass_gate(gate)
        return "value"

    def interrupt(event: threading.Event, timeout: float | None = None) -> bool:
        raise KeyboardInterrupt

    task = Task(lambda: store.get(make))
    store.asked.acquire()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Event, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.get(make)
    assert module.wait_graph._waiting == {}
    gate.set()
    assert task.result() == "value"


# --- Fork -------------------------------------------------------------------------------------------------


def test_a_run_of_another_thread_is_forgotten_in_the_child() -> None:
    store, gate = Store(), threading.Event()

    def make() -> object:
        pass_gate(gate)
        return "parent"

    def child() -> object:
        store.flight.after_fork()
        return (
            store.get(lambda: "child"),
            module.wait_graph._waiting == {},
            module.wait_graph._executing == {},
        )

    tasks = [Task(lambda: store.get(make)) for _ in range(2)]
    for _ in tasks:
        store.asked.acquire()
    until_waiting(1)
    assert in_child(child) == ["child", True, True]
    gate.set()
    assert [task.result() for task in tasks] == ["parent"] * 2


def test_locks_held_by_another_thread_are_free_in_the_child() -> None:
    store, held, gate = Store(), threading.Event(), threading.Event()

    def hold() -> None:
        with store.flight.lock, module.wait_graph._lock:
            held.set()
            pass_gate(gate)

    def child() -> object:
        store.flight.after_fork()
        return store.get(lambda: "child")

    task = Task(hold)
    pass_gate(held)
    try:
        assert in_child(child) == "child"
    finally:
        gate.set()
        task.result()


def test_a_run_that_forks_goes_on_in_the_child() -> None:
    store, inner = Store("store"), Store("inner")
    held, gate = threading.Event(), threading.Event()
    tasks: list[Task[object]] = []

    def hold(event: threading.Event) -> None:
        with event._cond:  # type: ignore[attr-defined]  # as a waiting thread does for a moment
            held.set()
            pass_gate(gate)

    def fork() -> object:
        tasks.append(Task(lambda: store.get(lambda: "unused")))
        until_waiting(1)
        event = module.wait_graph._waiting[tasks[0].ident].done
        assert event is not None
        tasks.append(Task(lambda: hold(event)))
        pass_gate(held)
        answer = in_child(go_on)
        gate.set()
        return answer

    def go_on() -> object:
        store.flight.after_fork()
        inner.flight.after_fork()
        with pytest.raises(LazyCycleError) as raised:
            store.get(lambda: "unused")
        for run in (*inner.flight._runs.values(), *store.flight._runs.values()):
            module.wait_graph.finish(run)  # as the return from the loader does
        return str(raised.value).partition(":")[0], module.wait_graph._executing == {}

    assert store.get(lambda: inner.get(fork)) == ["store needs inner needs store", True]
    assert tasks[0].result() == ["store needs inner needs store", True]
    tasks[1].result()
