"""InMemoryCache against the model, with every policy, with room for everything and with little."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import settings
from hypothesis.stateful import invariant

from prologue.cache import InMemoryCache
from prologue.cache.memory import Policy
from tests.cache.clock import Clock
from tests.cache.contract.model import CacheMachine
from tests.cache.test_memory import assert_is_whole

SETTINGS = settings(max_examples=20, stateful_step_count=40, deadline=None, derandomize=True)


class MemoryMachine(CacheMachine):
    policy: Policy = "w-tinylfu"

    def make(self, clock: Clock) -> InMemoryCache:
        self.memory = InMemoryCache(policy=self.policy, clock=clock, **self.limits())
        return self.memory

    def limits(self) -> dict[str, Any]:
        return {}

    @invariant()
    def is_whole_and_within_its_bounds(self) -> None:
        assert_is_whole(self.memory)
        assert self.memory.max_entries is None or len(self.memory) <= self.memory.max_entries
        assert self.memory._residents._weight <= self.memory._residents._most_weight


class SmallMachine(MemoryMachine):
    forgets = True

    def limits(self) -> dict[str, Any]:
        return {"max_entries": 3}


class SmallS3FIFOMachine(SmallMachine):
    policy: Policy = "s3-fifo"


class SmallLRUMachine(SmallMachine):
    policy: Policy = "lru"


class WeighedMachine(MemoryMachine):
    forgets = True

    def limits(self) -> dict[str, Any]:
        return {
            "max_entries": None,
            "max_weight": 7,
            "getsizeof": lambda value: len(str(value)),
            "copy": copy.copy,
            "max_idle": 3,
            "on_removal": lambda key, value, cause: None,
        }


TestLarge = MemoryMachine.TestCase
TestSmall = SmallMachine.TestCase
TestSmallS3FIFO = SmallS3FIFOMachine.TestCase
TestSmallLRU = SmallLRUMachine.TestCase
TestWeighed = WeighedMachine.TestCase

for case in (TestLarge, TestSmall, TestSmallS3FIFO, TestSmallLRU, TestWeighed):
    case.settings = SETTINGS
del case
