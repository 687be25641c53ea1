"""A cache of ten lines."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any


class InMemoryCache:
    def __init__(self) -> None:
        self.values: dict[str, tuple[Any, dict[str, int]]] = {}
        self.generations: dict[str, int] = {}
        self.numbers = itertools.count()

    def get(self, key: str, default: Any = None) -> Any:
        value, tags = self.values.get(key, (default, {}))
        return (
            value if all(self.generations.get(tag, -1) == number for tag, number in tags.items()) else default
        )

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        return {key: self.values[key][0] for key in keys if key in self.values}

    def set(self, key: str, value: Any, ttl: float | None = None, *, tags: Iterable[str] = ()) -> None:
        self.values[key] = value, {tag: self.generations.get(tag, -1) for tag in tags}

    def set_many(
        self, values: Mapping[str, Any], ttl: float | None = None, *, tags: Iterable[str] = ()
    ) -> None:
        for key, value in values.items():
            self.set(key, value, ttl, tags=tags)

    def delete(self, key: str) -> bool:
        return self.values.pop(key, None) is not None

    def delete_many(self, keys: Iterable[str]) -> int:
        return sum(map(self.delete, keys))

    def invalidate_tags(self, *tags: str) -> None:
        for tag in tags:
            self.generations[tag] = next(self.numbers)
