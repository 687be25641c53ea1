"""A private nginx that caches what an origin says."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .process import PrivateServer, find_program

_CONFIGURATION = """\
daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path body;
    fastcgi_temp_path fastcgi;
    proxy_temp_path proxy;
    scgi_temp_path scgi;
    uwsgi_temp_path uwsgi;
    proxy_cache_path cache keys_zone=responses:1m;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{origin};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_cache responses;
            proxy_cache_revalidate on;
        }}
    }}
}}
"""


class Nginx(PrivateServer):
    """nginx with ``proxy_cache`` in front of an origin, and all else as it comes.

    Args:
        directory: an empty directory for its files.
        origin: the port of the origin on loopback.
    """

    def __init__(self, directory: Path, origin: int) -> None:
        super().__init__(directory)
        self._file = directory / "nginx.conf"
        self._file.write_text(_CONFIGURATION.format(port=self.port, origin=origin))
        os.chmod(self._file, 0o644)

    def command(self) -> Sequence[str]:
        return [find_program("nginx"), "-p", str(self.directory), "-c", str(self._file), "-e", "stderr"]

    def answers(self) -> bool:
        with self.connect() as client:
            client.sendall(b"GET /ready HTTP/1.0\r\n\r\n")
            return client.recv(100).startswith(b"HTTP/1.1 200")
