"""Prologue for Python: a synchronous WSGI framework. Reduce magic. Reduce surprise."""

from typing import TYPE_CHECKING, Any

from prologue.app import App
from prologue.context import Context, switch
from prologue.errors import AbortError, HTTPError, PrologueError
from prologue.lazy import LazyResource, lazy_property
from prologue.response import (
    Response,
    abort,
    error404,
    error_page,
    html_response,
    json_response,
    plain_text_response,
    redirect,
)
from prologue.routing import Group, TrieRouter
from prologue.settings import Settings

if TYPE_CHECKING:
    from prologue.request import Limits, Request, UploadFile

__version__ = "0.1.0"

__all__ = [
    "AbortError",
    "App",
    "Context",
    "Group",
    "HTTPError",
    "LazyResource",
    "Limits",
    "PrologueError",
    "Request",
    "Response",
    "Settings",
    "TrieRouter",
    "UploadFile",
    "abort",
    "error404",
    "error_page",
    "html_response",
    "json_response",
    "lazy_property",
    "plain_text_response",
    "redirect",
    "switch",
]


def __getattr__(name: str) -> Any:
    # werkzeug's request takes as long to import as all the rest: it is imported when it is first needed.
    if name in ("Limits", "Request", "UploadFile"):
        import prologue.request

        return getattr(prologue.request, name)
    raise AttributeError(f"module 'prologue' has no attribute {name!r}")
