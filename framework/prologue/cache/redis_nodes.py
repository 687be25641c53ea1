"""Exchanges with Redis servers over redis-py's connections: commands out, replies back, all or nothing."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeAlias

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import AskError, ReadOnlyError, ResponseError
from redis.retry import Retry

from prologue.cache.connections import Connections

__all__ = ["Client", "Command", "RedisNodes", "Subscription", "connect_nodes"]

Command: TypeAlias = tuple[bytes | str | int, ...]
"""A command with its arguments; what follows its name is its key, but in ``EVAL``, whose key is fourth."""

Client: TypeAlias = redis.Redis | RedisCluster


class RedisNodes(Protocol):
    """One Redis server, or several that share the keys."""

    def execute(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one round trip to each server; return the replies, an error reply as an exception.

        Raises:
            Exception: what redis-py raises when there is no connection, or no reply in time.
        """

    def open_connection(self) -> Any:
        """Return a connection of the caller's own, redis-py's, to the server or to any of them."""

    def close(self) -> None:
        """Close the connections."""


class Subscription:
    """A connection that hears the messages of a channel; for one thread, but for :meth:`interrupt`.

    Args:
        connection: an open connection of redis-py; closed with the subscription, or if it cannot subscribe.
        channel: the channel.

    Raises:
        Exception: what redis-py raises.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: Any, channel: bytes) -> None:
        self._connection = connection
        try:
            connection.send_command("SUBSCRIBE", channel, check_health=False)
            connection.read_response(disable_decoding=True)
        except BaseException:
            connection.disconnect()
            raise

    def receive(self, timeout: float) -> bytes | bool | None:
        """Wait for a message and return it; ``True`` for another reply, ``None`` if nothing comes in time.

        Raises:
            Exception: the connection is lost.
        """
        if not self._connection.can_read(timeout):
            return None
        reply = self._connection.read_response(disable_decoding=True)
        return bytes(reply[2]) if reply[0] == b"message" else True

    def ping(self) -> None:
        """Ask for a sign of life."""
        self._connection.send_command("PING", check_health=False)

    def interrupt(self) -> None:
        """Let the thread that receives go on, with an error; for any other thread."""
        connected = self._connection._sock
        if connected is not None:
            try:
                connected.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is lost already

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()


class _SingleNode:
    """One server, or the one that a Sentinel says is the master."""

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self._pool = pool
        self._connections: Connections[Any] = Connections(
            self.open_connection,
            lambda connection: connection.disconnect(),
            lambda connection: connection._sock,
        )

    def open_connection(self) -> Any:
        connection = self._pool.connection_class(**self._pool.connection_kwargs)
        try:
            connection.connect()
        except BaseException:
            connection.disconnect()  # redis-py leaves it open when it is interrupted by what is no RedisError
            raise
        return connection

    def execute(self, commands: Sequence[Command]) -> list[Any]:
        try:
            with self._connections.lend() as connection:
                connection.send_packed_command(connection.pack_commands(commands), check_health=False)
                replies = [_read_reply(connection) for _ in commands]
                for reply in replies:
                    if isinstance(reply, ReadOnlyError):
                        raise reply  # a master no more: the next connection is to the new one
        except redis.RedisError:
            # Those that were opened before are as useless now, and each would cost somebody an error.
            self._connections.drop_idle()
            raise
        return replies

    def close(self) -> None:
        self._connections.close()


def _read_reply(connection: Any) -> Any:
    try:
        return connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return error


class _Cluster:
    """Several servers, each with a part of the keys."""

    def __init__(self, client: Any) -> None:
        self._client = client  # a RedisCluster, which has hardly any types
        self._nodes: dict[str, _SingleNode] = {}

    def _node(self, node: Any) -> _SingleNode:
        known = self._nodes.get(node.name)
        if known is None:
            pool = self._client.get_redis_connection(node).connection_pool
            known = self._nodes.setdefault(node.name, _SingleNode(pool))
        return known

    def open_connection(self) -> Any:
        return self._node(self._client.get_primaries()[0]).open_connection()

    def execute(self, commands: Sequence[Command]) -> list[Any]:
        replies: list[Any] = [None] * len(commands)
        self._execute_some(commands, range(len(commands)), replies)
        moved = [place for place, reply in enumerate(replies) if isinstance(reply, AskError)]
        if moved:
            self._client.nodes_manager.initialize()
            self._execute_some(commands, moved, replies)
        return replies

    def _execute_some(self, commands: Sequence[Command], places: Iterable[int], replies: list[Any]) -> None:
        shares: dict[_SingleNode, list[int]] = {}
        for place in places:
            command = commands[place]
            key = command[3 if command[0] == "EVAL" else 1]
            node = self._client.nodes_manager.get_node_from_slot(self._client.keyslot(key))
            shares.setdefault(self._node(node), []).append(place)
        for server, share in shares.items():
            try:
                answers = server.execute([commands[place] for place in share])
            except redis.RedisError:
                self._client.nodes_manager.initialize()  # another may have taken its place
                raise
            for place, answer in zip(share, answers, strict=True):
                replies[place] = answer

    def close(self) -> None:
        for node in self._nodes.values():
            node.close()
        self._client.close()


def connect_nodes(
    server: str | Client | Callable[[], Client], timeout: float, connect_timeout: float
) -> RedisNodes:
    """Return the nodes of a server; nothing is connected yet, but by the functions that make clusters.

    Args:
        server: a URL, a client whose settings and time limits are taken, or a function that returns one.
        timeout: seconds for a reply, where a URL does not say.
        connect_timeout: seconds to connect, where a URL does not say.
    """
    if isinstance(server, str):
        once = Retry(NoBackoff(), 0)
        limits = {"socket_timeout": timeout, "socket_connect_timeout": connect_timeout}
        return _SingleNode(redis.ConnectionPool.from_url(server, protocol=2, retry=once, **limits))
    client = server if isinstance(server, Client) else server()
    return _Cluster(client) if isinstance(client, RedisCluster) else _SingleNode(client.connection_pool)
