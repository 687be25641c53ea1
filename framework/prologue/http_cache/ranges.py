"""Byte ranges of a complete body (RFC 9110 section 14)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from itertools import pairwise

from prologue.http_cache.fields import split_list

__all__ = ["Range", "multipart", "parse_ranges"]

#: The first byte, and the one behind the last.
Range = tuple[int, int]

_MAX_RANGES = 16
_SPEC = re.compile(r"([0-9]{0,19})-([0-9]{0,19})")


def parse_ranges(value: str, length: int) -> list[Range] | None:
    """Return the ranges that a ``Range`` field asks of a body; none of them when it cannot be satisfied.

    Args:
        value: the field.
        length: bytes of the body.

    Returns:
        None when the field is to be ignored: another unit, wrong syntax, or a request that costs more than it
        is worth, with more than 16 ranges or with ranges that overlap (section 14.2).
    """
    unit, equals, specs = value.partition("=")
    if not equals or unit.strip(" \t").lower() != "bytes":
        return None
    ranges = []
    elements = split_list([specs])
    if not 0 < len(elements) <= _MAX_RANGES:
        return None
    for element in elements:
        spec = _SPEC.fullmatch(element)
        if spec is None or element == "-":
            return None
        if spec[1]:
            start = int(spec[1])
            stop = int(spec[2]) + 1 if spec[2] else length
            if spec[2] and stop <= start:
                return None
        else:
            start, stop = max(0, length - int(spec[2])), length
        if start < min(stop, length):
            ranges.append((start, min(stop, length)))
    ordered = sorted(ranges)
    if any(this[1] > following[0] for this, following in pairwise(ordered)):
        return None
    return ranges


def multipart(body: bytes, ranges: Sequence[Range], content_type: str) -> tuple[str, bytes]:
    """Return the type and the content of a ``multipart/byteranges`` answer (section 14.6)."""
    boundary = secrets.token_hex(16)
    parts = []
    for start, stop in ranges:
        head = f"--{boundary}\r\n"
        if content_type:
            head += f"Content-Type: {content_type}\r\n"
        head += f"Content-Range: bytes {start}-{stop - 1}/{len(body)}\r\n\r\n"
        parts += [head.encode("latin-1"), body[start:stop], b"\r\n"]
    parts.append(f"--{boundary}--\r\n".encode())
    return f"multipart/byteranges; boundary={boundary}", b"".join(parts)
