"""Which numbers a pool takes."""

from __future__ import annotations

__all__ = ["require_at_least", "require_positive", "require_sizes"]


def require_sizes(least: int, most: int) -> None:
    """Refuse a minimum and a maximum of connections that no pool can have.

    Raises:
        ValueError: they are out of range.
    """
    if not 0 <= least <= most or most < 1:
        raise ValueError(
            f"min_connections={least!r}, max_connections={most!r}: must be 0 <= min <= max, and 1 <= max"
        )


def require_at_least(least: int, **numbers: float | None) -> None:
    """Refuse numbers that are smaller; None means that there is no limit.

    Raises:
        ValueError: one is.
    """
    for name, number in numbers.items():
        if number is not None and not number >= least:
            raise ValueError(f"{name} must be at least {least}, not {number!r}")


def require_positive(**seconds: float | None) -> None:
    """Refuse durations that are no time; None means that there is no limit.

    Raises:
        ValueError: one is.
    """
    for name, number in seconds.items():
        if number is not None and not number > 0:
            raise ValueError(f"{name} must be above 0 seconds, not {number!r}")
