"""A shared HTTP cache (RFC 9111) inside the application, or around any other, over any cache.

The rules are pure functions, one idea to a module: ``fields``, ``directives``, ``dates``, ``structured`` and
``vary`` read what messages say; ``key`` tells requests apart; ``conditions`` and ``ranges`` answer what a
client asks for; ``freshness``, ``storable``, ``decide``, ``merge`` and ``invalidation`` judge. The rest does:
``store`` keeps responses in a cache, ``engine`` puts the rules to work, with ``flights`` and ``background``;
``wsgi`` and ``middleware`` are its two forms.

* **Privacy.** No request is handed what another is waiting for: each decides by what is stored.
* **Threads.** Every public object may be used by any thread.
* **Fork.** Nothing is opened on import; a child starts without the waits and refreshes of its parent.
"""

from prologue.http_cache.controls import CacheControls, cache_control, format_directives
from prologue.http_cache.middleware import CacheMiddleware, cache_middleware
from prologue.http_cache.profile import Profile
from prologue.http_cache.wsgi import HTTPCache

__all__ = [
    "CacheControls",
    "CacheMiddleware",
    "HTTPCache",
    "Profile",
    "cache_control",
    "cache_middleware",
    "format_directives",
]
