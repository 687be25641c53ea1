"""Pending writes: what is changed meanwhile is not overwritten."""

from __future__ import annotations

from prologue.cache import CacheBackend, Entry, InMemoryCache
from prologue.cache.pending import PendingWrites


def test_a_change_overtakes_all_writes_of_its_key_and_no_other() -> None:
    pending = PendingWrites()
    first, second, other = pending.begin("key"), pending.begin("key"), pending.begin("other")
    pending.overtake("key")
    later = pending.begin("key")
    assert [write.overtaken for write in (first, second, other, later)] == [True, True, False, False]
    pending.overtake_all()
    assert other.overtaken
    assert later.overtaken


def test_what_has_ended_is_forgotten_and_may_end_again() -> None:
    pending = PendingWrites()
    first, second = pending.begin("key"), pending.begin("key")
    pending.end(first)
    pending.end(first)
    assert pending.writes == {"key": [second]}
    pending.end(second)
    pending.end(second)
    assert pending.writes == {}


def test_a_child_has_a_lock_of_its_own() -> None:
    pending = PendingWrites()
    write = pending.begin("key")
    with pending._lock:
        pending.after_fork()
        pending.overtake("key")
    assert write.overtaken


def test_what_is_overtaken_while_it_is_written_is_removed_again() -> None:
    class Slow(InMemoryCache):
        def _write(self, key: str, entry: Entry) -> None:
            super()._write(key, entry)
            self.pending.overtake(key)

    cache = Slow()
    pending = cache.pending.begin("key")
    assert not CacheBackend._write_pending(cache, pending, cache.entry(1))
    assert cache.get("key") is None
