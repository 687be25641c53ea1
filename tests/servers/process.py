"""A server program as a child process of the tests."""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

PATIENCE = 30.0
"""Seconds after which a server that has not started never will."""


def free_port(also: int = 0) -> int:
    """Return a port of loopback that nobody listens on now, nor on the one so many above it.

    It lies below those that the system gives to outgoing connections: one of these could take it while the
    server is down.
    """
    while True:
        port = random.randrange(20_000, 32_000 - also)
        if _is_free(port) and _is_free(port + also):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def find_program(name: str) -> str:
    """Return the path of a server program, wherever the system's packages put it."""
    places = [os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]
    places += sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    found = shutil.which(name, path=os.pathsep.join(places))
    assert found is not None, f"{name} is not installed: scripts/test installs what the tests need"
    return found


class PrivateServer:
    """A server on a port of its own that is the same after a restart.

    A subclass says how it is started and when it answers. Used in a ``with`` block it runs inside the block.

    Args:
        directory: an empty directory for its files.
    """

    user: ClassVar[str] = "nobody"  # it runs as this one when the tests run as root

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._log = directory / "log"
        if os.geteuid() == 0:
            account = pwd.getpwnam(self.user)
            os.chown(directory, account.pw_uid, account.pw_gid)
            self._let_in()

    def _let_in(self) -> None:
        for parent in self.directory.parents:  # pytest's directories let only their owner through
            if str(parent) != "/" and parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)

    # What a subclass says

    def command(self) -> Sequence[str]:
        """Return the command that runs the server in the foreground."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether the server does its work now; raises nothing but OSError."""
        raise NotImplementedError

    # What tests call

    def start(self, wait: bool = True) -> Self:
        """Start the server; return when it answers, or at once."""
        assert self._process is None, "it runs already"
        if os.geteuid() == 0:
            self._let_in()  # again: every other run of pytest closes its directories' parent
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=self.user if os.geteuid() == 0 else None,
            )
        if wait:
            self.wait()
        return self

    def wait(self) -> None:
        """Return when the server answers."""
        end = time.monotonic() + PATIENCE
        while not self._answers():
            assert self._process is not None, "it does not run"
            assert self._process.poll() is None, f"it ended\n{self.log()}"
            assert time.monotonic() < end, f"it does not answer\n{self.log()}"
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            return self.answers()
        except OSError:
            return False

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the server and all its processes, by default without giving it time for anything."""
        if self._process is None:
            return
        try:
            if number == signal.SIGKILL:
                self._signal_all(number)
            else:
                self._process.send_signal(number)
            self._process.wait(PATIENCE)
        except ProcessLookupError:
            self._process.wait()
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            raise AssertionError(f"it does not end on {number.name}\n{self.log()}") from None
        finally:
            self._process = None

    def restart(self) -> None:
        """Kill the server and start it on the same port."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Stop the server's processes where they are: it accepts connections and never answers."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        """Signal the server's group, and its children, which may have groups of their own."""
        assert self._process is not None
        process = self._process.pid
        if self._process.poll() is not None:
            raise ProcessLookupError(f"it ended\n{self.log()}")
        os.kill(process, signal.SIGSTOP)  # so that it makes no more children
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        # Stopped first, so that none works on while another is gone already.
        for each in (signal.SIGSTOP, number):
            for child in children:
                try:
                    os.kill(int(child), each)
                except ProcessLookupError:
                    pass
        os.killpg(process, number)
        if number == signal.SIGKILL:
            end = time.monotonic() + PATIENCE
            while any(map(_runs, children)):  # they keep ports and shared memory until they are gone
                assert time.monotonic() < end, f"processes {children} are not gone"
                time.sleep(0.001)

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def __enter__(self) -> Self:
        return self if self._process is not None else self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 5)

    def run_tool(self, *command: str) -> None:
        """Run a program that prepares the server's directory, as the server's user."""
        done = subprocess.run(
            command,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            user=self.user if os.geteuid() == 0 else None,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)


def _runs(process: str) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"
