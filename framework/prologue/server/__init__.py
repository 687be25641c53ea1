"""How an application is served: gunicorn inside this process, and a development server in debug.

``gunicorn -c python:prologue.server.hooks MODULE:app`` serves it from gunicorn's own command line, see
:mod:`prologue.server.hooks`; any other WSGI server takes the application as it is. Importing this package
imports neither gunicorn nor werkzeug's server.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from prologue.errors import MissingExtraError

if TYPE_CHECKING:
    from prologue.app import App
    from prologue.server.worker import ThreadWorker

__all__ = ["ThreadWorker", "run"]

_logger = logging.getLogger(__name__)


def run(
    app: App, *, host: str | None = None, port: int | None = None, use_reloader: bool = True, **options: Any
) -> None:
    """Serve an application until the process is told to stop.

    With ``settings.debug`` this is werkzeug's development server: one process, a thread for each request, a
    restart when a source file changes, and this package's own debug page. Otherwise it is gunicorn, see
    :class:`prologue.server.embedded.GunicornServer`. Each server ignores the options of the other: one call
    serves both.

    Args:
        app: the application.
        host: where to listen; default ``settings.address``.
        port: default ``settings.port``.
        use_reloader: of the development server; default True.
        options: any settings of gunicorn, by their names.

    Raises:
        MissingExtraError: gunicorn is needed and not installed.
        SettingsError: an option is unknown or has a wrong value.
        OSError: the server cannot listen there.
        SystemExit: the server has ended; with status 0 when it was told to.
    """
    if app.settings.debug:
        from prologue.server.development import run_development_server

        if options:
            _logger.info("the development server makes no use of %s", ", ".join(options))
        run_development_server(app, host=host, port=port, use_reloader=use_reloader)
        return
    try:
        from prologue.server.embedded import GunicornServer
    except ImportError as error:
        raise MissingExtraError("app.run() without debug", "server") from error
    GunicornServer(app, host=host, port=port, **options).run()


def __getattr__(name: str) -> Any:
    if name == "ThreadWorker":  # it imports gunicorn, which need not be installed
        from prologue.server.worker import ThreadWorker

        return ThreadWorker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
