from __future__ import annotations

import gc
import sys
import threading
import weakref

import pytest

from prologue.lifecycle import abandon, on_fork
from prologue.lifecycle import fork as guard
from tests.concurrency import PATIENCE, Task, in_child, pass_gate, run_script


class Listener:
    def __init__(self, told: list[str], name: str, error: BaseException | None = None) -> None:
        self.told = told
        self.name = name
        self.error = error
        self.lock = threading.Lock()

    def __bool__(self) -> bool:
        return False  # as empty containers are

    def tell(self) -> None:
        self.lock = threading.Lock()
        self.told.append(self.name)
        if self.error is not None:
            raise self.error


def test_methods_are_called_in_the_child_in_order_of_registration() -> None:
    told: list[str] = []
    listeners = [Listener(told, name) for name in "abc"]
    for listener in listeners:
        on_fork(listener.tell)

    assert in_child(lambda: told) == ["a", "b", "c"]
    assert told == []


def test_every_method_is_called_even_if_another_raises_and_the_fork_succeeds() -> None:
    told: list[str] = []
    listeners = [Listener(told, "a", ValueError("a failed")), Listener(told, "b")]
    for listener in listeners:
        on_fork(listener.tell)

    assert in_child(lambda: told) == ["a", "b"]


def test_an_error_is_logged_in_the_child(caplog: pytest.LogCaptureFixture) -> None:
    listener = Listener([], "a", ValueError("a failed"))
    on_fork(listener.tell)

    messages = in_child(lambda: [record.getMessage() for record in caplog.records])

    assert messages == ["fork: Listener.tell failed"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interruption_skips_no_method() -> None:
    told: list[str] = []
    listeners = [Listener(told, "a", KeyboardInterrupt()), Listener(told, "b")]
    for listener in listeners:
        on_fork(listener.tell)

    assert in_child(lambda: told) == ["a", "b"]


def test_the_registration_ends_with_the_object() -> None:
    gc.collect()
    before = len(guard._fork_callbacks)
    told: list[str] = []
    listener = Listener(told, "a")
    on_fork(listener.tell)
    gone = weakref.ref(listener)
    assert len(guard._fork_callbacks) == before + 1

    del listener

    assert gone() is None
    assert len(guard._fork_callbacks) == before
    assert in_child(lambda: told) == []


def test_an_object_that_is_dying_at_the_fork_is_left_out() -> None:
    told: list[str] = []
    listener = Listener(told, "a")
    guard._fork_callbacks[-1] = weakref.ref(listener), Listener.tell
    del listener
    try:
        assert in_child(lambda: told) == []
    finally:
        del guard._fork_callbacks[-1]


@pytest.mark.parametrize("function", [lambda: None, print, [].clear])
def test_only_bound_methods_of_weakly_referable_objects_are_accepted(function: object) -> None:
    before = len(guard._fork_callbacks)
    with pytest.raises(TypeError):
        on_fork(function)  # type: ignore[arg-type]
    assert len(guard._fork_callbacks) == before


def test_a_lock_that_another_thread_holds_at_the_fork_is_free_in_the_child() -> None:
    listener = Listener([], "a")
    on_fork(listener.tell)
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with listener.lock:
            held.set()
            pass_gate(release)

    task = Task(hold)
    pass_gate(held)
    try:
        assert in_child(lambda: listener.lock.acquire(timeout=PATIENCE)) is True
        assert listener.lock.locked()
    finally:
        release.set()
        task.result()


def test_what_was_abandoned_is_not_finalized_while_the_process_runs() -> None:
    class Connection:
        def __del__(self) -> None:
            finalized.append("connection")

    finalized: list[str] = []
    connections = [Connection()]

    def child() -> list[str]:
        abandon(connections[0])
        connections.clear()
        gc.collect()
        return finalized

    assert in_child(child) == []
    connections.clear()
    assert finalized == ["connection"]


@pytest.mark.parametrize(("abandoned", "output"), [(False, "farewell\nparent\n"), (True, "parent\n")])
def test_what_was_abandoned_is_not_finalized_when_the_interpreter_ends(abandoned: bool, output: str) -> None:
    script = f"""if True:
        import os, sys
        from prologue.lifecycle import abandon, on_fork

        class Connection:
            def __del__(self, write=os.write):
                write(1, b"farewell\\n")

        class Pool:
            def __init__(self):
                self.connection = Connection()
                on_fork(self.forget)

            def forget(self):
                if {abandoned}:
                    abandon(self.connection)
                self.connection = None

        pool = Pool()
        if (child := os.fork()) == 0:
            sys.exit()
        os.waitpid(child, 0)
        os.write(1, b"parent\\n")
        os._exit(0)
    """
    assert run_script(script) == output


def test_at_exit_only_what_was_abandoned_is_given_a_reference_too_many() -> None:
    def child() -> list[int]:
        guard._abandoned.clear()
        counts = [sys.getrefcount(guard._abandoned)]
        guard._leave_abandoned_unfinalized()
        counts.append(sys.getrefcount(guard._abandoned))
        abandon("connection")
        guard._leave_abandoned_unfinalized()
        counts.append(sys.getrefcount(guard._abandoned))
        return [count - counts[0] for count in counts]

    assert in_child(child) == [0, 0, 1]


def test_importing_does_not_import_ctypes() -> None:
    script = "import sys, prologue.lifecycle, prologue.lazy; print('ctypes' in sys.modules)"
    assert run_script(script) == "False\n"


def test_importing_starts_no_thread_and_opens_nothing() -> None:
    script = """if True:
        import os, threading
        before = set(os.listdir("/proc/self/fd"))
        import prologue.lifecycle, prologue.lazy
        print(threading.active_count(), set(os.listdir("/proc/self/fd")) == before)
    """
    assert run_script(script) == "1 True\n"
