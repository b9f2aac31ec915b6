"""How journals of picks travel: several lines a message, and one message at least."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from models.proto.control.v1 import picks_pb2

_LINES = 256


def parts_of(lines: Sequence[bytes], dropped: int, began_ns: int) -> Iterator[picks_pb2.ReadPicksResponse]:
    """The messages with these lines, each with how many entries were dropped, and when the journal began."""
    for start in range(0, max(len(lines), 1), _LINES):
        part = b"".join(lines[start : start + _LINES])
        yield picks_pb2.ReadPicksResponse(lines=part, dropped=dropped, began_ns=began_ns)
