"""LazyResource against a plain model: whatever the order of calls, it does what these few lines say."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from prologue.errors import ClosedResourceError
from prologue.lazy import LazyResource


class LazyResourceMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.loads = 0
        self.fails = False
        self.resets = False
        self.closed_values: list[int] = []
        # The model:
        self.value: int | None = None
        self.end = 0.0
        self.closed = False
        self.expected_closed_values: list[int] = []

    @initialize(ttl=st.none() | st.integers(1, 5))
    def make(self, ttl: int | None) -> None:
        self.ttl = float("inf") if ttl is None else ttl
        self.resource = LazyResource(
            self.load, close=self.closed_values.append, ttl=ttl, clock=lambda: self.now, name="model"
        )

    def load(self) -> int:
        self.loads += 1
        if self.fails:
            raise ValueError(self.loads)
        return self.loads

    def model_forgets(self) -> None:
        if self.value is not None:
            self.expected_closed_values.append(self.value)
        self.value = None

    @property
    def model_is_initialized(self) -> bool:
        return self.value is not None and self.now < self.end

    @rule(fails=st.booleans())
    def get(self, fails: bool) -> None:
        self.fails = fails
        loads = self.loads
        if self.closed:
            with pytest.raises(ClosedResourceError):
                self.resource.get()
            assert self.loads == loads
        elif self.model_is_initialized:
            assert self.resource.get() == self.value
            assert self.loads == loads
        elif fails:
            with pytest.raises(ValueError, match=f"^{loads + 1}$"):
                self.resource.get()
        else:
            assert self.resource.get() == loads + 1
            self.model_forgets()
            self.value = loads + 1
            self.end = self.now + self.ttl

    @rule()
    def reset(self) -> None:
        self.resource.reset()
        self.model_forgets()

    @rule()
    def close(self) -> None:
        self.resource.close()
        self.model_forgets()
        self.closed = True

    @rule(seconds=st.integers(1, 6))
    def pass_time(self, seconds: int) -> None:
        self.now += seconds

    @invariant()
    def agrees_with_the_model(self) -> None:
        assert self.closed_values == self.expected_closed_values
        assert self.resource.initialized == self.model_is_initialized
        assert (self.resource.opened is None) == (self.value is None)
        state = "closed" if self.closed else "initialized" if self.model_is_initialized else "not initialized"
        assert repr(self.resource) == f"<LazyResource 'model' {state}>"


LazyResourceMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
test_lazy_resource_does_what_the_model_does = LazyResourceMachine.TestCase
