"""From the address of a database to the adapter that opens it."""

from __future__ import annotations

from urllib.parse import unquote

from prologue.db.adapter import Adapter
from prologue.db.sqlite import SQLiteAdapter
from prologue.errors import SettingsError

__all__ = ["adapter_from_url"]


def adapter_from_url(url: str) -> Adapter:
    """Return the adapter of a database URL.

    Args:
        url: ``sqlite:///relative.db``, ``sqlite:////absolute/path.db`` or ``sqlite:///:memory:``.
            Percent-escapes are decoded.

    Raises:
        SettingsError: no adapter reads it. The message shows the scheme only: the rest may hold a password.
    """
    prefix = "sqlite:///"
    if not url.startswith(prefix):
        scheme = url.partition("://")[0] if "://" in url else "no scheme"
        raise SettingsError(
            f"no adapter for a database URL with {scheme!r}: use sqlite:///PATH, or give the function that"
            " connects to ConnectionPool itself"
        )
    path = unquote(url.removeprefix(prefix))
    if not path or "?" in url:
        raise SettingsError(f"database URL {url!r}: write sqlite:///PATH, without options")
    return SQLiteAdapter(path)
