"""@cached: keys made of arguments, methods, options."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prologue.cache import CacheOptions, InMemoryCache, cached
from prologue.errors import CacheOptionError


def test_a_method_is_cached_by_what_its_key_says() -> None:
    cache = InMemoryCache()

    class Shop:
        def __init__(self, name: str) -> None:
            self.name = name
            self.calls = 0

        @cached(cache, key="{self.name}:{item}", ttl=60)
        def price(self, item: str, currency: str = "EUR") -> int:
            """Return the price."""
            self.calls += 1
            return self.calls

    one, two = Shop("one"), Shop("two")
    assert [one.price("tea"), one.price(item="tea"), two.price("tea"), one.price("jam")] == [1, 1, 1, 2]
    assert one.price.key("tea") == "one:tea"
    assert one.price.invalidate("tea")
    assert not one.price.invalidate("tea")
    assert one.price("tea") == 3
    assert one.price.refresh("tea") == 4
    assert Shop.price.__doc__ == "Return the price."
    assert Shop.price.__name__ == "price"
    assert one.price.__name__ == "price"
    assert Shop.price(one, "tea") == 4


def test_a_call_is_one_lookup_and_fills_tags_only_when_the_value_is_made() -> None:
    cache = InMemoryCache()
    shown: list[int] = []

    class Number(int):
        def __str__(self) -> str:
            shown.append(self)
            return f"number {int(self)}"

    @cached(cache, key="double:{number!r}", tags=("{number}",))
    def double(number: int) -> int:
        return 2 * number

    assert [double(Number(2)) for _ in range(3)] == [4, 4, 4]
    assert (cache.stats().hits, cache.stats().misses) == (2, 1)
    assert shown == [2]
    cache.invalidate_tags("number 2")
    assert cache.get("double:2") is None


def test_defaults_and_collections_of_arguments_are_part_of_the_key() -> None:
    cache = InMemoryCache()

    @cached(cache, key="{first}|{rest}|{named[x]}|{last}")
    def function(first: int, *rest: int, last: int = 9, **named: int) -> int:
        return first

    assert function.key(1, 2, x=3) == "1|(2,)|3|9"


@cached(InMemoryCache(), key="x:{a}:-{b}:")
def function_of_two(a: str, b: str) -> None: ...


@given(st.lists(st.tuples(st.text("ab:%-", max_size=3), st.text("ab:%-", max_size=3)), unique=True))
def test_different_arguments_never_have_the_same_key(arguments: list[tuple[str, str]]) -> None:
    assert len({function_of_two.key(a, b) for a, b in arguments}) == len(arguments)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("{x}", "there are id"),
        ("{}", "must be a parameter"),
        ("{id:>5}", "without a format"),
        ("{id!s}", "other than !r"),
        ("{id}{id}", "between"),
    ],
)
def test_a_key_that_cannot_be_made_is_refused(key: str, message: str) -> None:
    def function(id: int) -> None: ...

    with pytest.raises(CacheOptionError, match=message):
        cached(InMemoryCache(), key)(function)


def test_a_key_needs_a_text_that_tells_values_apart() -> None:
    class Thing:
        pass

    @cached(InMemoryCache(), key="{thing}")
    def function(thing: Any) -> None: ...

    with pytest.raises(TypeError, match=r"\{thing.id\}"):
        function(Thing())


def test_a_key_may_tell_a_number_from_its_text() -> None:
    @cached(InMemoryCache(), key="user:{id!r}:{name}")
    def function(id: Any, name: str = "a:b") -> Any:
        return id

    arguments = [1, "1", 1, None, "None"]
    assert [function(argument) for argument in arguments] == arguments
    assert function.key("1") == "user:'1':a%3Ab"
    assert function.key("a:b", "") == "user:'a%3Ab':"


def test_a_key_with_the_representation_of_an_object_needs_one_of_its_own() -> None:
    class Named:
        def __str__(self) -> str:
            return "named"

    @cached(InMemoryCache(), key="{thing}")
    def by_text(thing: Named) -> None: ...

    @cached(InMemoryCache(), key="{thing!r}")
    def by_representation(thing: Named) -> None: ...

    assert by_text.key(Named()) == "named"
    with pytest.raises(TypeError, match="tells nothing in a key"):
        by_representation.key(Named())


def test_tags_are_several() -> None:
    with pytest.raises(TypeError, match="several"):
        cached(InMemoryCache(), "key", tags="users")


def test_options_of_the_function_replace_those_of_the_cache() -> None:
    calls: list[int] = []

    @cached(InMemoryCache(), key="key", options=CacheOptions(hard_timeout=30, jitter=0.1), ttl=60)
    def function() -> int:
        calls.append(1)
        return len(calls)

    assert [function(), function()] == [1, 1]


def test_an_error_of_a_cached_function_is_not_kept() -> None:
    calls: list[int] = []

    @cached(InMemoryCache(), key="key")
    def function() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError
        return 2

    with pytest.raises(ValueError, match=r"^$"):
        function()
    assert function() == 2
