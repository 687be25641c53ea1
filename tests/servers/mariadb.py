"""A private MariaDB server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .process import PrivateServer, find_program


class MariaDB(PrivateServer):
    """MariaDB with the database ``test`` and the user ``app`` without a password; its data survive a kill."""

    user = "mysql"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._data = str(directory / "data")
        self._start = directory / "start.sql"
        self._start.write_text(
            "CREATE DATABASE IF NOT EXISTS test;\n"
            "CREATE USER IF NOT EXISTS app@'127.0.0.1';\n"
            "GRANT ALL ON *.* TO app@'127.0.0.1';\n"
        )
        install = [find_program("mariadb-install-db"), "--no-defaults", "--skip-test-db"]
        self.run_tool(*install, "--auth-root-authentication-method=normal", f"--datadir={self._data}")

    def command(self) -> Sequence[str]:
        return [
            find_program("mariadbd"),
            "--no-defaults",
            f"--datadir={self._data}",
            f"--socket={self.directory / 'socket'}",
            f"--pid-file={self.directory / 'pid'}",
            "--bind-address=127.0.0.1",
            f"--port={self.port}",
            "--skip-name-resolve",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-buffer-pool-size=16M",
            f"--init-file={self._start}",
        ]

    def answers(self) -> bool:
        import pymysql

        try:
            pymysql.connect(host="127.0.0.1", port=self.port, user="app", database="test").close()
        except pymysql.err.OperationalError:
            return False
        return True
