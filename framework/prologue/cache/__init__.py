"""Caches."""

from prologue.cache.base import CacheBackend
from prologue.cache.breaker import CircuitBreaker
from prologue.cache.codec import Codec
from prologue.cache.entry import NEVER, Entry
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
    "CacheOptions",
    "CacheStats",
    "CircuitBreaker",
    "Codec",
    "Entry",
    "InMemoryCache",
    "MemcachedCache",
    "MultiLevelCache",
    "RedisCache",
]
