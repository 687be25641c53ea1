"""The server for development: werkzeug's, without its debugger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prologue.server.addresses import check_free, place

if TYPE_CHECKING:
    from prologue.app import App

__all__ = ["run_development_server"]


def run_development_server(
    app: App, *, host: str | None = None, port: int | None = None, use_reloader: bool = True
) -> None:
    """Serve an application with werkzeug's server: one process, a thread for each request.

    Startup runs before the first request, so that an error in it is shown as a page; shutdown at exit. Under
    the reloader the application lives in a child process, which is replaced when a source file changes.

    Args:
        app: the application.
        host: default ``settings.address``.
        port: default ``settings.port``.
        use_reloader: restart when a source file changes.

    Raises:
        SettingsError: host or port is none.
        OSError: it cannot listen there.
    """
    from werkzeug.serving import is_running_from_reloader, run_simple

    address, number = place(app.settings, host, port)
    if not is_running_from_reloader():  # whose child is handed the socket
        check_free([(address, number)], reuse_port=False)
    # SECURITY: werkzeug's debugger runs any code that a visitor sends; our own page only shows the error.
    run_simple(address, number, app, use_reloader=use_reloader, use_debugger=False, threaded=True)
