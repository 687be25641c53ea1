"""Caches: values under keys, for a time, made once however many ask.

>>> cache = InMemoryCache(max_entries=1000)
>>> cache.get_or_set("answer", lambda: 42, ttl=60)
42
>>> cache.get("answer"), cache.get("question"), cache.get("question", MISSING) is MISSING
(42, None, True)
>>> cache.close()

* **Locks.** A hit in memory takes none. Nothing of a user's runs under one: no factory, listener or logger.
* **Threads.** Any thread may use a cache. A factory runs in the thread of its caller, or, with a timeout or
  for a refresh, on one of a few threads in the background.
* **Fork.** In the child a cache has what is in memory, connections of its own and no thread of the parent's.
"""

from prologue.cache.application import init_cache
from prologue.cache.base import CacheBackend
from prologue.cache.codec import Codec
from prologue.cache.context import FactoryContext
from prologue.cache.decorator import CachedFunction, cached
from prologue.cache.entry import NEVER, Entry
from prologue.cache.locking import CacheLock
from prologue.cache.memcached import MemcachedCache
from prologue.cache.memory import InMemoryCache
from prologue.cache.multi_level import MultiLevelCache
from prologue.cache.options import CacheOptions
from prologue.cache.redis import RedisCache
from prologue.cache.stats import CacheStats
from prologue.lifecycle import MISSING

__all__ = [
    "MISSING",
    "NEVER",
    "CacheBackend",
    "CacheLock",
    "CacheOptions",
    "CacheStats",
    "CachedFunction",
    "Codec",
    "Entry",
    "FactoryContext",
    "InMemoryCache",
    "MemcachedCache",
    "MultiLevelCache",
    "RedisCache",
    "cached",
    "init_cache",
]
