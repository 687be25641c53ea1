from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

from prologue.errors import SettingsError
from prologue.server.addresses import check_free, place
from prologue.settings import Settings


@pytest.fixture
def taken() -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()


def test_the_place_is_the_given_one_else_that_of_the_settings() -> None:
    settings = Settings(address="10.0.0.1", port=9000)
    assert place(settings, None, None) == ("10.0.0.1", 9000)
    assert place(settings, "::1", None) == ("::1", 9000)
    assert place(settings, None, 0) == ("10.0.0.1", 0)


@pytest.mark.parametrize(("host", "port", "name"), [("", None, "address"), (None, 65536, "port")])
def test_a_place_that_is_none_is_refused(host: str | None, port: int | None, name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        place(Settings(), host, port)


def test_an_address_in_use_is_an_error_that_names_it(taken: tuple[str, int]) -> None:
    with pytest.raises(OSError, match=f":{taken[1]}: Address already in use; stop") as caught:
        check_free([("127.0.0.1", 0), taken], reuse_port=False)
    assert caught.value.errno == errno.EADDRINUSE


def test_an_address_of_another_machine_is_an_error_that_names_it() -> None:
    with pytest.raises(OSError, match=r"192\.0\.2\.1:0: Cannot assign"):
        check_free([("192.0.2.1", 0)], reuse_port=False)


def test_free_addresses_and_what_is_no_pair_pass(taken: tuple[str, int]) -> None:
    check_free(["/run/app.sock", 3, ("127.0.0.1", 0), ("::1", 0)], reuse_port=False)


def test_a_closed_server_leaves_its_address_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with socket.create_connection(address) as client:
            server.accept()[0].close()
            client.recv(1)
    check_free([address], reuse_port=False)


def test_a_port_may_be_shared_by_those_who_all_want_to() -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as server:
        check_free([server.getsockname()], reuse_port=True)
        with pytest.raises(OSError, match="already in use"):
            check_free([server.getsockname()], reuse_port=False)


@pytest.mark.parametrize("name", ["GUNICORN_PID", "LISTEN_PID"])
def test_sockets_that_are_handed_over_are_not_checked(
    taken: tuple[str, int], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    check_free([taken], reuse_port=False)
