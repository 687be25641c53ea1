"""From the address of a database to the adapter that opens it.

The rules:

1. ``scheme://user:password@host:port/database?option=value``. Percent-escapes are decoded in every part, so
   that a ``/``, ``@`` or ``:`` in a password is written ``%2F``, ``%40``, ``%3A``.
2. Without ``://`` it is ``host:port:database:user:password``, for PostgreSQL. Nothing is escaped: the
   password is everything after the fourth colon, colons included. An IPv6 address stands in brackets.
3. Errors name the part that is wrong, and never show the password, nor anything that may hold a piece of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

from prologue.db.adapter import Adapter
from prologue.db.postgres import PostgresAdapter
from prologue.db.sqlite import SQLiteAdapter
from prologue.errors import MissingExtraError, SettingsError

__all__ = ["DatabaseURL", "adapter_from_url"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[^:\[\]]*)(?::(.*))?", re.DOTALL)
REMEDY: Final = "in a password write / as %2F, @ as %40"
_COLONS = re.compile(r"(\[[^\]]*\]|[^:]*):([^:]*):([^:]*):([^:]*):(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class DatabaseURL:
    """The parts of an address, decoded; what is missing is empty.

    Attributes:
        scheme: in lower case.
        hosts: each with its port, 0 if it has none.
        path: what follows the ``/`` after the hosts.
        options: of the query.
    """

    scheme: str
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    options: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, url: str) -> DatabaseURL:
        """Take an address apart.

        Raises:
            SettingsError: a part is missing or malformed; the message names it.
        """
        found = _SCHEME.match(url)
        if found is None:
            return cls._parse_colons(url)
        scheme = found[1].lower()
        rest, _, query = url[found.end() :].partition("?")
        authority, _, path = rest.partition("/")
        login, _, hosts = authority.rpartition("@")
        user, _, password = login.partition(":")
        if authority and "@" in path:
            raise SettingsError(f"database URL {scheme}://…: an @ after the host: {REMEDY}")
        options = {}
        for option in query.split("&") if query else ():
            name, equals, value = option.partition("=")
            if not equals:
                raise SettingsError(f"database URL {scheme}://…: an option that is not name=value")
            options[unquote(name)] = unquote(value)
        return cls(
            scheme,
            tuple(_host(part, scheme) for part in hosts.split(",")) if hosts else (),
            unquote(path),
            unquote(user),
            unquote(password),
            options,
        )

    @classmethod
    def _parse_colons(cls, url: str) -> DatabaseURL:
        found = _COLONS.fullmatch(url)
        if found is None:
            raise SettingsError(
                "database URL: neither scheme://… nor host:port:database:user:password"
                f" ({url.count(':')} colons instead of 4 or more)"
            )
        host, port, database, user, password = found.groups()
        for name, value in (("host", host), ("port", port), ("database", database), ("user", user)):
            if not value:
                raise SettingsError(f"database URL host:port:database:user:password: the {name} is empty")
        return cls("postgresql", (_host(f"{host}:{port}", "postgresql"),), database, user, password)


def adapter_from_url(url: str) -> Adapter:
    """Return the adapter of a database URL.

    Args:
        url: one of

            * ``sqlite:///relative.db``, ``sqlite:////absolute/path.db``, ``sqlite:///:memory:``; option
              ``busy_timeout`` in seconds;
            * ``postgresql://user:password@host:port/database``, or ``postgres://``; several hosts with commas
              between them; the options of libpq, and ``pgbouncer=true``;
            * ``mysql://`` or ``mariadb://``, as above, through PyMySQL; options ``charset``, ``collation``,
              ``unix_socket``, ``ssl_ca``, ``ssl_disabled=true``, and in seconds ``connect_timeout``,
              ``read_timeout``, ``write_timeout``;
            * ``host:port:database:user:password``, of PostgreSQL: the password is everything after the fourth
              colon, as it stands.

    Raises:
        SettingsError: no adapter reads it, or a part is wrong. The message never shows the password.
        MissingExtraError: the driver is not installed.
    """
    parts = DatabaseURL.parse(url)
    make = ADAPTERS.get(parts.scheme)
    if make is None:
        raise SettingsError(
            f"no adapter for a database URL with {parts.scheme!r}: use one of {', '.join(sorted(ADAPTERS))},"
            " or give the function that connects to ConnectionPool itself"
        )
    return make(parts)


def _host(part: str, scheme: str) -> tuple[str, int]:
    found = _HOST.fullmatch(part)
    if found is None:
        # Not shown: where an @ of the password is not escaped, this is a piece of it.
        raise SettingsError(f"database URL {scheme}://…: the host is malformed: {REMEDY}")
    host, port = unquote(found[1]).strip("[]"), found[2]
    if not port:
        return host, 0
    if not (port.isascii() and port.isdecimal() and 1 <= int(port[:6]) <= 65535):
        raise SettingsError(f"database URL {scheme}://…: the port is not a number from 1 to 65535: {REMEDY}")
    return host, int(port)


def _sqlite(url: DatabaseURL) -> Adapter:
    if url.hosts or url.user or not url.path:
        raise SettingsError("database URL sqlite://…: write sqlite:///PATH, with three slashes or four")
    arguments = _converted(url, {"busy_timeout": _seconds})
    return SQLiteAdapter(url.path, **arguments)


def _postgres(url: DatabaseURL) -> Adapter:
    options = dict(url.options)
    pgbouncer = _truth(options.pop("pgbouncer", "false"))
    if pgbouncer is None:
        raise SettingsError(f"database URL {url.scheme}://…: the option pgbouncer is neither true nor false")
    parts = {"dbname": url.path, "user": url.user, "password": url.password}
    if url.hosts:
        parts["host"] = ",".join(host for host, _ in url.hosts)
        if any(port for _, port in url.hosts):
            parts["port"] = ",".join(str(port or 5432) for _, port in url.hosts)
    given: dict[str, Any] = {name: value for name, value in parts.items() if value}
    return PostgresAdapter(pgbouncer=pgbouncer, **{**given, **options})


def _mysql(url: DatabaseURL) -> Adapter:
    try:
        import pymysql
    except ImportError as error:
        raise MissingExtraError("MySQL and MariaDB", "mysql") from error
    if len(url.hosts) > 1:
        raise SettingsError(f"database URL {url.scheme}://…: one host only")
    readers = dict.fromkeys(("charset", "collation", "unix_socket", "ssl_ca"), str)
    seconds = dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), _seconds)
    arguments: dict[str, Any] = {"charset": "utf8mb4", "connect_timeout": 5.0}
    arguments |= _converted(url, {**readers, **seconds, "ssl_disabled": _boolean})
    if url.hosts:
        host, port = url.hosts[0]
        arguments |= {"host": host, "port": port or 3306}
    arguments |= {"user": url.user or None, "password": url.password, "database": url.path or None}
    return Adapter(lambda: pymysql.connect(**arguments))  # not a partial: its repr would show the password


ADAPTERS: Final[dict[str, Callable[[DatabaseURL], Adapter]]] = {
    "mariadb": _mysql,
    "mysql": _mysql,
    "postgres": _postgres,
    "postgresql": _postgres,
    "sqlite": _sqlite,
}


def _converted(url: DatabaseURL, readers: dict[str, Callable[[str], Any]]) -> dict[str, Any]:
    converted = {}
    for name, text in url.options.items():
        if name not in readers:
            known = ", ".join(sorted(readers))
            raise SettingsError(f"database URL {url.scheme}://…: no option {name!r}: there are {known}")
        try:
            converted[name] = readers[name](text)
        except ValueError:
            raise SettingsError(f"database URL {url.scheme}://…: the option {name} is malformed") from None
    return converted


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e6:
        raise ValueError
    return value


def _boolean(text: str) -> bool:
    value = _truth(text)
    if value is None:
        raise ValueError
    return value


def _truth(text: str) -> bool | None:
    return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(text.lower())
