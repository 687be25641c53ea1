"""Private reverse proxies, which add a field ``X-Proxied`` to every request that they let through."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .process import PrivateServer, find_program

_NGINX = """\
daemon off;
error_log stderr;
pid {directory}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    underscores_in_headers on;
    ignore_invalid_headers off;
    upstream behind {{ server 127.0.0.1:{behind}; keepalive 2; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://behind;
            proxy_http_version 1.1;
            proxy_request_buffering {buffering};
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Proxied $request_id;
        }}
    }}
}}
"""

_VARNISH = """\
vcl 4.1;
backend behind {{ .host = "127.0.0.1"; .port = "{behind}"; }}
sub vcl_recv {{
    set req.http.X-Proxied = req.xid;
    return (pass);
}}
"""


class Proxy(PrivateServer):
    """A reverse proxy.

    Args:
        directory: an empty directory for its files.
        behind: the port of the server behind it.
    """

    def __init__(self, directory: Path, behind: int) -> None:
        super().__init__(directory)
        self.behind = behind

    def answers(self) -> bool:
        with self.connect() as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            return client.recv(100).startswith(b"HTTP/1.1 ")


class Nginx(Proxy):
    """nginx at its most lenient.

    Attributes:
        buffering: whether it reads a body before it sends it on.
    """

    buffering = "on"

    def command(self) -> Sequence[str]:
        settings = self.directory / "nginx.conf"
        names = {"directory": self.directory, "port": self.port, "behind": self.behind}
        settings.write_text(_NGINX.format(buffering=self.buffering, **names))
        settings.chmod(0o644)
        return [find_program("nginx"), "-p", str(self.directory), "-e", "stderr", "-c", str(settings)]


class StreamingNginx(Nginx):
    """nginx that sends a body on as it comes."""

    buffering = "off"


class Varnish(Proxy):
    """Varnish that caches nothing."""

    user = "vcache"

    def command(self) -> Sequence[str]:
        program = self.directory / "proxy.vcl"
        program.write_text(_VARNISH.format(behind=self.behind))
        program.chmod(0o644)
        options = ["-a", f"127.0.0.1:{self.port}", "-f", str(program), "-n", str(self.directory / "work")]
        return [find_program("varnishd"), "-F", *options, "-s", "malloc,16M", "-j", "none"]
