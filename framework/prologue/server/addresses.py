"""Where a server listens."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable

from prologue.settings import Settings

__all__ = ["check_free", "place"]


def place(settings: Settings, host: str | None, port: int | None) -> tuple[str, int]:
    """Return the address and the port to listen on: those given, else those of the settings.

    Raises:
        SettingsError: one of them is none.
    """
    given = {"address": host, "port": port}
    chosen = settings.replace(**{name: value for name, value in given.items() if value is not None})
    return chosen.address, chosen.port


def check_free(addresses: Iterable[object], *, reuse_port: bool) -> None:
    """Check that sockets can be bound, where gunicorn would retry for seconds and then exit.

    Args:
        addresses: (host, port) pairs; all else, such as the path of a unix socket, is not checked.
        reuse_port: whether other servers may listen on the same port.

    Raises:
        OSError: an address cannot be bound; the message says which, and what to do.
    """
    if os.environ.keys() & {"GUNICORN_PID", "LISTEN_PID"}:
        return  # the sockets are handed over, by a gunicorn that is replaced or by systemd
    for address in addresses:
        if not isinstance(address, tuple):
            continue
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            try:
                probe.bind(address)
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"cannot listen on {address[0]}:{address[1]}: {error.strerror}; "
                    "stop the program that uses it, or choose another address or port",
                ) from error
