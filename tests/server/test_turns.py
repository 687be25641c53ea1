"""Whose turn it is to wait for events."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import pytest

from prologue.server.turns import _LONGEST, Turns
from tests.concurrency import Task


@pytest.fixture
def waited_for() -> Iterator[tuple[Turns, int]]:
    """The turns of some threads, and a descriptor that they wait for."""
    epoll = select.epoll()
    fileno = os.eventfd(0)
    epoll.register(fileno, select.EPOLLIN)
    turns = Turns(epoll)
    turns.leader = 0
    yield turns, fileno
    epoll.close()
    os.close(fileno)


def test_a_thread_that_finds_the_leader_at_work_waits_for_news(waited_for: tuple[Turns, int]) -> None:
    turns, fileno = waited_for
    deputy = Task(lambda: turns.take_lead(1))
    os.eventfd_write(fileno, 1)
    deputy.result()
    assert turns.leader == 1
    assert turns._patience < _LONGEST


def test_where_leaders_are_slow_the_lead_is_taken_at_once(waited_for: tuple[Turns, int]) -> None:
    turns, _ = waited_for
    turns._patience = _LONGEST / 2
    Task(lambda: turns.take_lead(1)).result()  # without any news
    assert turns.leader == 1
    turns.waiting = True  # but not from a leader that waits
    os.eventfd_write(waited_for[1], 1)
    Task(lambda: turns.take_lead(2)).result()
    assert turns.leader == 2
