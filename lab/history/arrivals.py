"""What model replicas received during a run, as Parquet; pyarrow is imported lazily, see ``lab.history.parquet``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from lab.errors import RunError
from lab.history.parquet import RowFormat
from lab.reading import parse_json

NOT_RECORDED = "?"
"""Value of ``via``, ``headers`` and ``answer`` in runs of earlier releases."""

NO_DEADLINE, NO_TIME_RECORDED = -1, -2
"""Values of ``remaining_ms`` of a request without a deadline, and in runs of earlier releases."""

_COVERAGE = "replicas"


class Arrival(NamedTuple):
    """One request at one replica, whether it was served or refused. Times are Unix nanoseconds.

    Attributes:
        routing_key: of the header; without one, of the version in the body.
        is_copy: whether it is a shadow copy.
        tenant: in the body, empty if it has none.
        received: the receipt, hexadecimal, see :mod:`models.stub.receipts`; empty if there is none.
        ended_ns: 0 if it was under way when the replica was asked.
        status: name of its gRPC status, ``CANCELLED`` if the caller left; empty if it was under way.
        via: header of the units that it had passed, see :data:`lab.routing.headers.VIA`; empty without one.
        remaining_ms: time until its deadline, milliseconds; see :data:`NO_DEADLINE`.
        headers: names of its headers in their order, blank between; :data:`NOT_RECORDED` also if they were too many.
        values: digests of their values in the same order: CRC-32, 8 hexadecimal digits each.
        answer: digest over the items that a copy was answered with; empty of requests, and of copies without an answer.
    """

    request_id: str
    replica: str
    routing_key: str
    is_copy: bool
    tenant: str
    received: str
    arrived_ns: int
    ended_ns: int
    status: str
    via: str = NOT_RECORDED
    remaining_ms: int = NO_TIME_RECORDED
    headers: str = NOT_RECORDED
    values: str = ""
    answer: str = NOT_RECORDED


DIGITS = 8
"""Of the digest of a header's value."""


@lru_cache(maxsize=1_000)
def header_places(headers: str) -> Mapping[str, tuple[int, ...]]:
    """Where in an arrival's ``values`` the digests of each header are, by name."""
    found: dict[str, tuple[int, ...]] = {}
    for number, name in enumerate(headers.split()):
        found[name] = (*found.get(name, ()), number * DIGITS)
    return found


def header_digest(value: str) -> str:
    """The digest of a header's value, as an arrival's ``values`` have it."""
    return f"{crc32(value.encode()):08x}"


class ArrivalCoverage(NamedTuple):
    """What a replica could say about what it received.

    Attributes:
        known_from_ns: since when nothing is missing, Unix nanoseconds; None if it could not be asked.
        began_ns: when its process began, Unix nanoseconds.
        error: why it could not be asked; empty if it could.
        gaps: times of which nothing is known, from and until, Unix nanoseconds; None as the end if that has not come.
            None altogether if the replica keeps no file of what it receives, and in runs of earlier releases.
    """

    known_from_ns: int | None
    began_ns: int = 0
    error: str = ""
    gaps: Sequence[tuple[int, int | None]] | None = None


class Arrivals(NamedTuple):
    """What replicas received, in no order, and what each could say, by name."""

    requests: Sequence[Arrival]
    coverage: Mapping[str, ArrivalCoverage]


_FORMAT = RowFormat(Arrival, "what replicas received", Arrival._field_defaults)


def write_arrivals(path: Path, arrivals: Arrivals) -> None:
    """Writes what replicas received; see :meth:`lab.history.parquet.RowFormat.write`."""
    _FORMAT.write(path, arrivals.requests, {_COVERAGE: json.dumps(arrivals.coverage)})


def read_arrivals(path: Path) -> Arrivals:
    """Returns what replicas received.

    Raises:
        RunError: the file is missing, or holds something else.
    """
    table = _FORMAT.table(path)
    try:
        said = parse_json(table.schema.metadata[_COVERAGE.encode()].decode())
        coverage = {name: ArrivalCoverage(*each) for name, each in said.items()}
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise RunError(f"{path}: does not say what each replica could ({error}); restore the file") from error
    return Arrivals(_FORMAT.rows(table), coverage)
