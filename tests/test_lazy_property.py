from __future__ import annotations

import dataclasses
import inspect
import threading
from typing import assert_type

import pytest

from prologue.errors import LazyCycleError
from prologue.lazy import lazy_property
from tests.concurrency import PATIENCE, Task, impatient_threads, in_child, pass_gate, together, until_waiting


class Plain:
    """With a `__dict__`."""

    def __init__(self) -> None:
        self.computed = 0
        self.errors: list[BaseException] = []

    @lazy_property
    def number(self) -> int:
        """How often it was computed."""
        return compute(self)


class Slotted:
    __slots__ = ("_number", "computed", "errors")

    def __init__(self) -> None:
        self.computed = 0
        self.errors: list[BaseException] = []

    @lazy_property
    def number(self) -> int:
        """How often it was computed."""
        return compute(self)


class SlottedBelow(Slotted):
    """Has a `__dict__`, and keeps the value in the slot of its base."""


class PlainBelow(Plain):
    __slots__ = ("other",)


def compute(instance: Plain | Slotted) -> int:
    instance.computed += 1
    if instance.errors:
        raise instance.errors.pop()
    return instance.computed


kinds = pytest.mark.parametrize("kind", [Plain, Slotted, PlainBelow, SlottedBelow])


@kinds
def test_computed_on_first_read_once_per_instance(kind: type[Plain | Slotted]) -> None:
    first, second = kind(), kind()
    assert first.computed == 0
    assert [first.number, first.number, first.computed] == [1, 1, 1]
    assert second.computed == 0
    second.computed = 10
    assert [second.number, first.number] == [11, 1]


@kinds
def test_computed_once_whatever_the_number_of_threads(kind: type[Plain | Slotted]) -> None:
    with impatient_threads():
        for _ in range(15):
            instance = kind()
            assert together(8, lambda _, instance=instance: instance.number) == [1] * 8  # type: ignore[misc]
            assert instance.computed == 1


@kinds
def test_a_failure_is_not_remembered(kind: type[Plain | Slotted]) -> None:
    instance = kind()
    instance.errors = [ValueError("no"), KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        _ = instance.number
    with pytest.raises(ValueError, match="no") as raised:
        _ = instance.number
    assert raised.value.__context__ is None
    assert instance.number == 3


@kinds
def test_deleting_resets_and_needs_a_value(kind: type[Plain | Slotted]) -> None:
    instance = kind()
    with pytest.raises(AttributeError):
        del instance.number
    assert instance.number == 1
    del instance.number
    assert instance.number == 2


def test_a_value_in_the_dict_is_read_as_a_plain_attribute() -> None:
    instance = Plain()
    assert "number" not in vars(instance)
    _ = instance.number
    assert vars(instance)["number"] == 1
    assert not inspect.isdatadescriptor(vars(Plain)["number"])


def test_a_value_in_a_slot_is_in_the_slot_named_with_an_underscore() -> None:
    instance = Slotted()
    _ = instance.number
    assert instance._number == 1  # type: ignore[attr-defined]
    below = SlottedBelow()
    _ = below.number
    assert vars(below) == {}


@pytest.mark.parametrize("slots", [("x",), (), ("number_",)])
def test_a_missing_slot_is_an_error_at_the_making_of_the_class(slots: tuple[str, ...]) -> None:
    # Python 3.11 wraps what __set_name__ raises.
    with pytest.raises((TypeError, RuntimeError)) as raised:
        type("Broken", (), {"__slots__": slots, "number": lazy_property(compute)})
    error = raised.value if isinstance(raised.value, TypeError) else raised.value.__cause__
    assert isinstance(error, TypeError)
    assert str(error) == "Broken.number has no slot: add '_number' to __slots__"


def test_an_override_needs_a_slot_of_its_own() -> None:
    with pytest.raises((TypeError, RuntimeError)):
        type("Broken", (Slotted,), {"__slots__": (), "number": lazy_property(compute)})


def test_a_slot_named_dict_is_a_dict() -> None:
    class WithDict:
        __slots__ = ("__dict__",)

        @lazy_property
        def number(self) -> int:
            return 1

    instance = WithDict()
    assert instance.number == 1
    assert vars(instance) == {"number": 1}


def test_dataclasses_with_slots() -> None:
    @dataclasses.dataclass(slots=True)
    class Point:
        x: float
        _double: float = dataclasses.field(init=False, repr=False, compare=False)

        @lazy_property
        def double(self) -> float:
            return self.x * 2

    point = Point(2.0)
    assert [point.double, point._double] == [4.0, 4.0]
    del point.double
    point.x = 3.0
    assert point.double == 6.0


def test_different_instances_are_computed_in_parallel() -> None:
    both = threading.Barrier(2)

    class Meeting:
        @lazy_property
        def place(self) -> int:
            return both.wait(PATIENCE)

    assert sorted(together(2, lambda _: Meeting().place)) == [0, 1]


def test_a_failure_reaches_every_waiting_thread() -> None:
    gate, begun, failure = threading.Event(), threading.Event(), ValueError("no")

    class Slow:
        @lazy_property
        def number(self) -> int:
            begun.set()
            pass_gate(gate)
            raise failure

    instance = Slow()
    first = Task(lambda: instance.number)
    pass_gate(begun)
    second = Task(lambda: instance.number)
    until_waiting(1)
    gate.set()
    assert [first.error(), second.error()] == [failure] * 2


def test_a_property_that_needs_itself_is_an_error_that_names_the_circle() -> None:
    class Loop:
        @lazy_property
        def a(self) -> int:
            return self.b

        @lazy_property
        def b(self) -> int:
            return self.a

    with pytest.raises(LazyCycleError, match=r"Loop\.a needs .*Loop\.b needs .*Loop\.a: "):
        _ = Loop().a


def test_instances_may_need_each_other_in_one_direction() -> None:
    class Chain:
        def __init__(self, following: Chain | None) -> None:
            self.following = following

        @lazy_property
        def length(self) -> int:
            return 1 if self.following is None else 1 + self.following.length

    assert Chain(Chain(Chain(None))).length == 3


def test_super_calls_the_bases_function_and_the_override_keeps_its_own_value() -> None:
    class Override(Plain):
        @lazy_property
        def number(self) -> int:
            return super().number * 100

        @property
        def base(self) -> int:
            return super().number

    instance = Override()
    assert instance.number == 100
    assert vars(instance)["number"] == 100
    assert [instance.base, instance.number] == [2, 100]


def test_super_in_slots_keeps_both_values() -> None:
    class Override(Slotted):
        __slots__ = ("_number",)

        @lazy_property
        def number(self) -> int:
            return super().number * 100

        @property
        def base(self) -> int:
            return super().number

    instance = Override()
    assert [instance.number, instance.base, instance.number, instance.computed] == [100, 1, 100, 1]


@kinds
def test_the_class_shows_the_descriptor_with_the_docstring(kind: type[Plain | Slotted]) -> None:
    assert isinstance(kind.number, lazy_property)
    assert kind.number.__doc__ == "How often it was computed."
    assert inspect.getdoc(kind.number) == "How often it was computed."


def test_one_lazy_property_has_one_name() -> None:
    shared = lazy_property(compute)
    with pytest.raises((TypeError, RuntimeError)) as raised:
        type("Broken", (), {"first": shared, "second": shared})
    error = raised.value if isinstance(raised.value, TypeError) else raised.value.__cause__
    assert str(error) == "one lazy_property with two names, 'first' and 'second': make two"


def test_outside_the_body_of_a_class_it_is_an_error() -> None:
    class Late:
        pass

    Late.number = lazy_property(compute)  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="in the body of a class"):
        _ = Late().number  # type: ignore[attr-defined]


def test_the_type_of_the_attribute_is_the_functions() -> None:
    assert_type(Plain().number, int)
    assert_type(Slotted().number, int)
    assert_type(Plain.number, lazy_property[int])


@kinds
def test_a_child_keeps_the_value_and_forgets_computations_of_other_threads(
    kind: type[Plain | Slotted],
) -> None:
    gate, begun = threading.Event(), threading.Event()

    class Slow:
        @lazy_property
        def number(self) -> int:
            begun.set()
            pass_gate(gate)
            return 1

    computed, slow = kind(), Slow()
    _ = computed.number
    task = Task(lambda: slow.number)
    pass_gate(begun)

    def child() -> object:
        gate.set()
        return computed.number, slow.number

    assert in_child(child) == [1, 1]
    assert not gate.is_set()
    gate.set()
    task.result()
