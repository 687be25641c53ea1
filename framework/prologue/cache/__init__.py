"""Caches."""

from prologue.cache.base import CacheBackend
from prologue.cache.entry import NEVER, Entry
from prologue.cache.options import CacheOptions
from prologue.cache.stats import CacheStats
from prologue.lifecycle import MISSING

__all__ = ["MISSING", "NEVER", "CacheBackend", "CacheOptions", "CacheStats", "Entry"]
