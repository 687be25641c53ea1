from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from functools import partial

import pytest

from prologue.errors import LazyCycleError, LifecycleError
from prologue.lifecycle import Lifecycle, ShutdownManager
from tests.concurrency import (
    Task,
    impatient_threads,
    in_child,
    pass_gate,
    run_script,
    together,
    until_waiting,
)


def fail(error: BaseException) -> None:
    raise error


class Falsy:
    """A handler that is false: an object with a call and a length."""

    def __init__(self, called: list[str]) -> None:
        self.called = called

    def __len__(self) -> int:
        return 0

    def __call__(self) -> None:
        self.called.append("falsy")


# --- Startup ----------------------------------------------------------------------------------------------


def test_startup_handlers_run_in_order_once() -> None:
    called: list[str] = []
    lifecycle = Lifecycle()
    for name in "abc":
        lifecycle.on_startup(partial(called.append, name))
    lifecycle.on_startup(Falsy(called))
    assert not lifecycle.started
    assert called == []

    lifecycle.startup()
    lifecycle.startup()

    assert lifecycle.started
    assert called == ["a", "b", "c", "falsy"]


def test_registration_is_usable_as_a_decorator() -> None:
    lifecycle = Lifecycle()

    @lifecycle.on_startup
    def warm_up() -> int:
        return 1

    @lifecycle.on_shutdown
    def cool_down() -> int:
        return 2

    assert (warm_up(), cool_down()) == (1, 2)


def test_threads_that_call_startup_wait_until_it_is_done() -> None:
    with impatient_threads():
        for _ in range(10):
            lifecycle = Lifecycle()
            called: list[int] = []
            for number in range(5):
                lifecycle.on_startup(partial(called.append, number))

            def start(_: int, lifecycle: Lifecycle = lifecycle, called: list[int] = called) -> list[int]:
                lifecycle.startup()
                return called.copy()

            assert together(8, start) == [[0, 1, 2, 3, 4]] * 8


def test_not_started_until_the_last_handler_has_returned() -> None:
    lifecycle = Lifecycle()
    seen: list[bool] = []
    lifecycle.on_startup(lambda: seen.append(lifecycle.started))
    lifecycle.startup()
    assert seen == [False]


def test_a_failure_reaches_every_caller_and_the_next_goes_on_with_the_handler_that_failed() -> None:
    lifecycle = Lifecycle()
    called: list[str] = []
    begun, gate = threading.Event(), threading.Event()
    failures = [ValueError("not yet")]

    def second() -> None:
        called.append("second")
        begun.set()
        pass_gate(gate)
        if failures:
            raise failures.pop()

    lifecycle.on_startup(partial(called.append, "first"))
    lifecycle.on_startup(second)
    lifecycle.on_startup(partial(called.append, "third"))

    tasks = [Task(lifecycle.startup) for _ in range(3)]
    pass_gate(begun)
    until_waiting(2)
    gate.set()

    errors = {task.error() for task in tasks}
    assert [str(error) for error in errors] == ["not yet"]
    assert not lifecycle.started
    assert called == ["first", "second"]

    lifecycle.startup()
    assert lifecycle.started
    assert called == ["first", "second", "second", "third"]


@pytest.mark.parametrize("interruption", [SystemExit(3), KeyboardInterrupt()])
def test_an_interruption_of_startup_is_not_swallowed_and_not_remembered(interruption: BaseException) -> None:
    lifecycle = Lifecycle()
    interruptions = [interruption]
    lifecycle.on_startup(lambda: fail(interruptions.pop()) if interruptions else None)

    with pytest.raises(type(interruption)):
        lifecycle.startup()
    assert not lifecycle.started
    lifecycle.startup()
    assert lifecycle.started


def test_a_handler_registered_by_a_startup_handler_runs_in_the_same_startup() -> None:
    lifecycle = Lifecycle()
    called: list[str] = []
    lifecycle.on_startup(lambda: lifecycle.on_startup(partial(called.append, "late")) and None)
    lifecycle.on_startup(partial(called.append, "early"))
    lifecycle.startup()
    assert called == ["early", "late"]


def test_a_startup_handler_that_needs_startup_is_an_error() -> None:
    lifecycle = Lifecycle()
    lifecycle.on_startup(lifecycle.startup)
    with pytest.raises(LazyCycleError, match=r"^startup needs startup: "):
        lifecycle.startup()


def test_a_startup_handler_after_startup_is_an_error() -> None:
    lifecycle = Lifecycle()
    lifecycle.startup()
    with pytest.raises(LifecycleError, match=r"^startup handler fail comes too late: "):
        lifecycle.on_startup(fail)  # type: ignore[type-var]


@pytest.mark.parametrize("started", [True, False])
def test_startup_after_shutdown_is_an_error(started: bool) -> None:
    lifecycle = Lifecycle()
    if started:
        lifecycle.startup()
    lifecycle.shutdown()
    with pytest.raises(LifecycleError, match=r"^startup is not possible any more"):
        lifecycle.startup()
    with pytest.raises(LifecycleError, match="comes too late"):
        lifecycle.on_startup(lambda: None)
    assert lifecycle.started is started


def test_shutdown_during_startup_ends_it() -> None:
    lifecycle = Lifecycle()
    called: list[str] = []
    begun, gate = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        pass_gate(gate)

    lifecycle.on_startup(slow)
    lifecycle.on_startup(partial(called.append, "after"))
    lifecycle.on_shutdown(partial(called.append, "shutdown"))
    task = Task(lifecycle.startup)
    pass_gate(begun)

    assert lifecycle.shutdown() == []
    gate.set()

    assert isinstance(task.error(), LifecycleError)
    assert called == []
    assert not lifecycle.started


# --- Shutdown ---------------------------------------------------------------------------------------------


def test_shutdown_handlers_run_in_reverse_order_once_and_before_the_resources_close() -> None:
    lifecycle = Lifecycle()
    called: list[str] = []
    for name in "abc":
        lifecycle.on_shutdown(partial(called.append, name))
    lifecycle.on_shutdown(Falsy(called))
    lifecycle.resources.add_ready("pool", "pool", close=called.append)
    lifecycle.startup()

    assert lifecycle.shutdown() == []
    assert lifecycle.shutdown() == []

    assert called == ["falsy", "c", "b", "a", "pool"]
    assert lifecycle.started, "a request that is still running must not start it again"


def test_simultaneous_shutdowns_run_each_handler_once() -> None:
    with impatient_threads():
        for _ in range(10):
            lifecycle = Lifecycle()
            called: list[int] = []
            for number in range(5):
                lifecycle.on_shutdown(partial(called.append, number))
            lifecycle.startup()
            together(4, lambda _, lifecycle=lifecycle: lifecycle.shutdown())  # type: ignore[misc]
            assert called == [4, 3, 2, 1, 0]


def test_each_handler_runs_even_if_another_raises(caplog: pytest.LogCaptureFixture) -> None:
    lifecycle = Lifecycle()
    called: list[str] = []
    error, closing_error = ValueError("handler"), ValueError("resource")
    lifecycle.on_shutdown(partial(called.append, "first"))

    @lifecycle.on_shutdown
    def broken() -> None:
        raise error

    lifecycle.on_shutdown(partial(called.append, "last"))
    lifecycle.resources.add_ready("a", "a", close=called.append)
    lifecycle.resources.add_ready("b", closing_error, close=fail)
    lifecycle.startup()

    assert lifecycle.shutdown() == [error, closing_error]

    assert called == ["last", "first", "a"]
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0].startswith("shutdown handler test_each_handler_runs_even_if_another_raises")
    assert messages[0].endswith("broken failed")
    assert messages[1:] == ["closing resource 'b' failed"]


def test_an_interruption_of_shutdown_is_raised_after_everything_is_closed() -> None:
    lifecycle = Lifecycle()
    called: list[str] = []
    lifecycle.on_shutdown(partial(called.append, "first"))
    lifecycle.on_shutdown(partial(fail, SystemExit(3)))
    lifecycle.resources.add_ready("pool", "pool", close=called.append)
    lifecycle.startup()

    with pytest.raises(SystemExit):
        lifecycle.shutdown()

    assert called == ["first", "pool"]


@pytest.mark.parametrize("failing", [False, True])
def test_without_a_completed_startup_shutdown_only_closes_resources(failing: bool) -> None:
    lifecycle = Lifecycle()
    called: list[str] = []
    lifecycle.on_shutdown(partial(called.append, "handler"))
    lifecycle.resources.add_ready("pool", "pool", close=called.append)
    if failing:
        lifecycle.on_startup(partial(fail, ValueError("no")))
        with pytest.raises(ValueError, match="no"):
            lifecycle.startup()

    assert lifecycle.shutdown() == []

    assert called == ["pool"]


def test_a_handler_registered_during_shutdown_is_the_next_to_run() -> None:
    lifecycle = Lifecycle()
    called: list[str] = []
    lifecycle.on_shutdown(partial(called.append, "first"))
    lifecycle.on_shutdown(lambda: lifecycle.on_shutdown(partial(called.append, "late")))
    lifecycle.startup()
    lifecycle.shutdown()
    assert called == ["late", "first"]


def test_a_handler_registered_after_shutdown_is_an_error() -> None:
    lifecycle = Lifecycle()
    late: list[BaseException] = []

    def register_too_late(_: object) -> None:
        try:
            lifecycle.on_shutdown(fail)  # type: ignore[type-var]
        except LifecycleError as error:
            late.append(error)

    lifecycle.resources.add_ready("pool", "pool", close=register_too_late)
    lifecycle.startup()
    lifecycle.shutdown()
    register_too_late(None)
    assert [str(error) for error in late] == ["shutdown handler fail comes too late: shutdown is over"] * 2


def test_the_shutdown_manager_registers_shutdown_handlers() -> None:
    lifecycle = Lifecycle()
    called: list[str] = []
    handler = partial(called.append, "handler")
    assert ShutdownManager(lifecycle).add_handler(handler) is handler
    lifecycle.startup()
    lifecycle.shutdown()
    assert called == ["handler"]


def test_the_repr_shows_the_state() -> None:
    lifecycle = Lifecycle()
    states = [repr(lifecycle)]
    lifecycle.on_startup(lambda: None)
    lifecycle.on_shutdown(lambda: states.append(repr(lifecycle)))
    lifecycle.startup()
    states.append(repr(lifecycle))
    lifecycle.shutdown()
    states.append(repr(lifecycle))
    assert states == [
        "<Lifecycle not started, 0 startup handlers>",
        "<Lifecycle started, 1 startup handlers>",
        "<Lifecycle stopping, 1 startup handlers>",
        "<Lifecycle stopped, 1 startup handlers>",
    ]


# --- Exit and fork ----------------------------------------------------------------------------------------


def test_a_started_process_shuts_down_at_exit() -> None:
    script = """if True:
        from prologue.lifecycle import Lifecycle

        lifecycle = Lifecycle()
        lifecycle.on_shutdown(lambda: print("handler"))
        lifecycle.resources.add_ready("pool", "closed", close=print)
        if START:
            lifecycle.startup()
        del lifecycle
    """
    assert run_script(script.replace("START", "True")) == "handler\nclosed\n"
    assert run_script(script.replace("START", "False")) == ""


def test_shutdown_takes_back_what_startup_registered_for_the_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    registered: list[Callable[[], object]] = []
    monkeypatch.setattr(atexit, "register", registered.append)
    monkeypatch.setattr(atexit, "unregister", registered.remove)
    lifecycle = Lifecycle()
    assert registered == []
    lifecycle.startup()
    assert registered == [lifecycle.shutdown]
    lifecycle.shutdown()
    assert registered == []


def test_a_child_of_a_process_that_has_not_started_runs_all_that_was_declared() -> None:
    lifecycle = Lifecycle()
    called: list[str] = []
    lifecycle.on_startup(partial(called.append, "startup"))
    lifecycle.on_shutdown(partial(called.append, "shutdown"))

    def child() -> object:
        lifecycle.startup()
        lifecycle.shutdown()
        return called

    assert [in_child(child), in_child(child)] == [["startup", "shutdown"]] * 2
    assert not lifecycle.started


def test_a_child_starts_over() -> None:
    lifecycle = Lifecycle()
    called: list[str] = []
    lifecycle.on_startup(partial(called.append, "startup"))
    lifecycle.on_shutdown(partial(called.append, "shutdown"))
    lifecycle.startup()

    def child_that_serves() -> object:
        fresh = not lifecycle.started
        lifecycle.startup()
        lifecycle.shutdown()
        return fresh, called

    def child_that_does_not() -> object:
        lifecycle.shutdown()
        return called

    assert in_child(child_that_serves) == [True, ["startup", "startup", "shutdown"]]
    assert in_child(child_that_does_not) == ["startup"]
    lifecycle.shutdown()
    assert called == ["startup", "shutdown"]
    assert in_child(child_that_serves) == [True, ["startup", "shutdown", "startup", "shutdown"]]


def test_what_the_parents_startup_registered_is_not_the_childs() -> None:
    lifecycle = Lifecycle()
    called: list[str] = []
    process = ["parent"]

    def start() -> None:
        name = process[0]
        lifecycle.on_startup(partial(called.append, f"startup of {name}"))
        lifecycle.on_shutdown(partial(called.append, f"shutdown of {name}"))

    lifecycle.on_startup(start)
    lifecycle.on_shutdown(partial(called.append, "shutdown"))
    lifecycle.startup()
    lifecycle.on_shutdown(partial(called.append, "parent's own"))

    def child() -> object:
        called.clear()
        process[0] = "child"
        lifecycle.startup()
        lifecycle.shutdown()
        return called

    assert in_child(child) == ["startup of child", "shutdown of child", "shutdown"]
    lifecycle.shutdown()
    assert called == ["startup of parent", "parent's own", "shutdown of parent", "shutdown"]


def test_what_the_parents_handlers_hold_is_not_finalized_in_the_child() -> None:
    class Connection:
        def close(self) -> None:
            finalized.append("connection")

        __del__ = close

    finalized: list[str] = []
    lifecycle = Lifecycle()
    lifecycle.on_startup(lambda: lifecycle.on_shutdown(Connection().close))
    lifecycle.startup()

    assert in_child(lambda: finalized) == []
    lifecycle.shutdown()
    assert finalized[0] == "connection"


def test_a_retry_after_a_failure_keeps_what_was_declared_before_the_first_try() -> None:
    lifecycle = Lifecycle()
    called: list[str] = []
    failures = [ValueError("no")]
    lifecycle.on_startup(lambda: lifecycle.on_shutdown(partial(called.append, "from startup")))
    lifecycle.on_startup(lambda: fail(failures.pop()) if failures else None)
    with pytest.raises(ValueError, match="no"):
        lifecycle.startup()
    lifecycle.startup()

    def child() -> object:
        lifecycle.startup()
        lifecycle.shutdown()
        return called

    assert in_child(child) == ["from startup"]


def test_a_startup_in_progress_in_another_thread_is_not_the_childs() -> None:
    lifecycle = Lifecycle()
    begun, gate = threading.Event(), threading.Event()
    parent = [True]

    def slow() -> None:
        if parent:
            begun.set()
            pass_gate(gate)

    lifecycle.on_startup(slow)
    task = Task(lifecycle.startup)
    pass_gate(begun)

    def child() -> object:
        parent.clear()
        lifecycle.startup()
        return lifecycle.started

    assert in_child(child) is True
    gate.set()
    task.result()


def test_a_startup_handler_that_forks_goes_on_in_the_child() -> None:
    script = """if True:
        import os
        from prologue.lifecycle import Lifecycle

        def fork():
            if (child := os.fork()) != 0:
                assert os.waitpid(child, 0)[1] == 0
                os._exit(0)

        lifecycle = Lifecycle()
        lifecycle.on_startup(lambda: os.write(1, b"before\\n"))
        lifecycle.on_startup(fork)
        lifecycle.on_startup(lambda: os.write(1, b"after\\n"))
        lifecycle.on_shutdown(lambda: os.write(1, b"shutdown\\n"))
        lifecycle.startup()
    """
    assert run_script(script) == "before\nafter\nshutdown\n"
