"""Private servers for the tests: on free ports, in temporary directories, killed and restarted at will."""

from .mariadb import MariaDB
from .memcached import Memcached
from .postgres import Postgres
from .process import PrivateServer, free_port
from .proxy import Proxy
from .redis import Redis

__all__ = ["MariaDB", "Memcached", "Postgres", "PrivateServer", "Proxy", "Redis", "free_port"]
