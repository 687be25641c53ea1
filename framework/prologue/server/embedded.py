"""gunicorn inside this process: what ``app.run()`` starts."""

from __future__ import annotations

import os
import select
from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import Application
from gunicorn.config import Config

from prologue.errors import SettingsError
from prologue.server import hooks
from prologue.server.addresses import check_free, place
from prologue.settings import Settings

if TYPE_CHECKING:
    from prologue.app import App

__all__ = ["GunicornServer"]

_SHARED_MEMORY = "/dev/shm"


class GunicornServer(Application):  # type: ignore[misc]  # gunicorn has no types
    """A gunicorn that serves an application of this process.

    Each setting of gunicorn comes from the first of these that has it: host, port and options; the variable
    ``GUNICORN_CMD_ARGS``; the configuration file that one of them names; the application's settings;
    gunicorn's default. Of the application's settings ``address`` and ``port``, ``workers``, ``threads``,
    ``reuse_port`` and ``debug`` (as the log level) count; where ``workers`` is 1, the variable
    ``WEB_CONCURRENCY`` counts in its place. Other defaults than gunicorn's:
    :class:`prologue.server.ThreadWorker` as the worker, heartbeat files in memory where
    the system has ``/dev/shm``, a tenth of ``max_requests`` as its jitter, and no control socket.

    Startup and shutdown run in every worker. The hooks ``post_worker_init`` and ``worker_exit`` of options or
    configuration file run too, between the two: after startup, and before shutdown.

    Args:
        app: the application.
        host: where to listen; default ``settings.address``.
        port: default ``settings.port``.
        options: any settings of gunicorn, by their names.

    Raises:
        SettingsError: an option is unknown, has a wrong value, or cannot be used here.
        SystemExit: ``GUNICORN_CMD_ARGS`` or the configuration file is wrong; what it is stands on stderr.
    """

    def __init__(self, app: App, *, host: str | None = None, port: int | None = None, **options: Any) -> None:
        self._app = app
        self._options = options
        if host is not None or port is not None:
            if "bind" in options:
                raise SettingsError("app.run(): give bind, or host and port, but not both")
            self._options = {**options, "bind": _bind(*place(app.settings, host, port))}
        super().__init__()

    def do_load_config(self) -> None:
        """Load the configuration; gunicorn's own method would print an error and exit."""
        self.load_default_config()
        self.load_config()

    def load_config(self) -> None:
        """Gather the settings of all sources; gunicorn calls this again when it gets HUP."""
        config = self.cfg
        _check_names(self._options, config)
        arguments = config.parser().parse_args(config.get_cmd_args_from_env())
        given = {key: value for key, value in vars(arguments).items() if key != "args" and value is not None}
        given |= self._options
        if given.get("config"):
            try:
                from_file = self.load_config_from_file(given["config"])
            except RuntimeError as error:
                raise SettingsError(f"app.run(): config cannot be {given['config']!r}: {error}") from error
            given = {name: from_file[name] for name in from_file.keys() & config.settings.keys()} | given
        for name, value in (_defaults(self._app.settings, given, config) | given).items():
            try:
                config.set(name, value)
            except Exception as error:
                raise SettingsError(f"app.run(): {name} cannot be {value!r}: {error}") from error
        if "max_requests_jitter" not in given:
            config.set("max_requests_jitter", config.max_requests // 10)
        if config.reload:
            raise SettingsError(
                "app.run(): reload finds no new code, for this process has loaded it already; use "
                "Settings(debug=True), or run gunicorn --reload MODULE:app"
            )
        self._compose_hooks()
        if "chdir" in given:
            self.chdir()

    def _compose_hooks(self) -> None:
        """Let the hooks of the user and ours both run: the user's while the application is started."""
        their_post_worker_init = self.cfg.post_worker_init
        their_worker_exit = self.cfg.worker_exit

        def post_worker_init(worker: Any) -> None:
            hooks.post_worker_init(worker)
            their_post_worker_init(worker)

        def worker_exit(server: Any, worker: Any) -> None:
            try:
                their_worker_exit(server, worker)
            finally:
                hooks.worker_exit(server, worker)

        self.cfg.set("post_worker_init", post_worker_init)
        self.cfg.set("worker_exit", worker_exit)

    def load(self) -> App:
        """Return the application."""
        return self._app

    def run(self) -> None:
        """Serve until told to stop.

        Raises:
            OSError: an address cannot be listened on.
            SettingsError: gunicorn finds only now that it cannot work with an option.
            SystemExit: always, at the end; with status 0 when the server was told to stop.
        """
        check_free(self.cfg.address, reuse_port=self.cfg.reuse_port)
        self._check_worker_class()
        try:
            super().run()
        except ValueError as error:
            raise SettingsError(f"app.run(): {error}") from error

    def _check_worker_class(self) -> None:
        """Look whether there is such a worker: gunicorn's own message is a traceback of thirty lines."""
        if self.cfg.pythonpath:
            return  # only gunicorn's `run` makes it importable from there
        given = self.cfg.settings["worker_class"].get()
        reason: object = "its module has no such class"
        try:
            found = isinstance(self.cfg.worker_class, type)
        except Exception as error:
            # The text of gunicorn's error is the traceback of the other.
            found, reason = False, error.__context__ or error
        if not found:
            raise SettingsError(f"app.run(): worker_class cannot be {given!r}: {reason}")


def _bind(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _check_names(options: Mapping[str, Any], config: Config) -> None:
    for name in options:
        if name not in config.settings:
            near = get_close_matches(name, config.settings, 1)
            hint = f"did you mean {near[0]!r}?" if near else "gunicorn's documentation lists its settings"
            raise SettingsError(f"app.run(): unknown option {name!r}; {hint}")


def _defaults(settings: Settings, given: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """Return what differs from gunicorn's defaults, before what is given."""
    defaults: dict[str, Any] = {
        "bind": _bind(settings.address, settings.port),
        # gunicorn makes a sync worker with several threads a gthread one: who asks for sync shall get it.
        "threads": 1 if given.get("worker_class") == "sync" else settings.threads,
        "reuse_port": settings.reuse_port,
        "loglevel": "debug" if settings.debug else "info",
        "control_socket_disable": True,
    }
    if hasattr(select, "epoll"):
        defaults["worker_class"] = "prologue.server.ThreadWorker"
    if settings.workers > 1:
        defaults["workers"] = settings.workers
    if os.path.isdir(_SHARED_MEMORY) and os.access(_SHARED_MEMORY, os.W_OK):
        # The heartbeat changes a file's times every second; on a disk that can block a worker.
        defaults["worker_tmp_dir"] = _SHARED_MEMORY
    # The control socket is newer than some releases of gunicorn.
    return {name: value for name, value in defaults.items() if name in config.settings}
