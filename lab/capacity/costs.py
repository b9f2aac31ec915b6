"""Processor time per request, by topology and part, as a bench has measured it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.capacity.quantity import Origin, Quantity
from lab.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TITLE = "CPU seconds per 1,000 requests, median over rounds"
"""Of the tables that benches keep them in."""

TOPOLOGY, PAYLOAD, SUM = "topology", "payload, B", "sum"
"""Columns beside those of the parts."""

CALLER = "caller"
"""The part that sends: the client's library, and a driver in the caller's place."""

_PER_REQUEST = 1e-3


class Costs:
    """What requests cost.

    Args:
        seconds: topology, part and payload's bytes → processor time of a request, seconds.
        source: where and when it was measured.
    """

    def __init__(self, seconds: Mapping[tuple[str, str, int], float], source: str) -> None:
        self._seconds, self._source = dict(seconds), source

    @property
    def topologies(self) -> list[str]:
        """Those that were measured."""
        return list(dict.fromkeys(topology for topology, _, _ in self._seconds))

    def has(self, topology: str, part: str) -> bool:
        """Whether this part of it was measured."""
        return any((topology, part) == key[:2] for key in self._seconds)

    def at(self, topology: str, part: str, payload_bytes: int) -> Quantity:
        """Processor time of a request, seconds: as measured, or on the line through two sizes that were.

        Raises:
            InputError: it was measured at one other size only, or not at all.
        """
        known = sorted((key[2], cost) for key, cost in self._seconds.items() if key[:2] == (topology, part))
        if not known:
            raise InputError(f"{topology}: nothing is known of what its part {part!r} costs; measure it anew")
        if payload_bytes in dict(known):
            return Quantity(dict(known)[payload_bytes], "s", Origin.MEASURED, self._source)
        if len(known) == 1:
            raise InputError(
                f"--payload: {payload_bytes} B was not measured, only {known[0][0]} B ({self._source}); leave "
                "--from out, or take a run of the bench capacity"
            )
        # The two sizes around it; beyond the last, or before the first, the line through the nearest two goes on.
        above = next((place for place, (size, _) in enumerate(known) if size > payload_bytes), len(known) - 1)
        (low, cost), (high, more) = known[max(above, 1) - 1 : max(above, 1) + 1]
        value = cost + (more - cost) * (payload_bytes - low) / (high - low)
        return Quantity(
            max(value, 0.0), "s", Origin.COMPUTED, f"on the line through {low} and {high} B: {self._source}"
        )


def costs_of(document: Any, where: str) -> Costs:
    """Reads them from what a bench leaves: its own file, what ``lab bench --json`` prints, or ``docs/figures.json``.

    Args:
        document: the JSON.
        where: its name, for sources and errors.

    Raises:
        InputError: it holds no such table, or one that cannot be read.
    """
    seconds: dict[tuple[str, str, int], float] = {}
    sources = []
    for name, result in _results(document):
        for table in result.get("tables", ()):
            if table.get("title") == TITLE and PAYLOAD in table.get("columns", ()):
                seconds |= _read(table, where)
                started = (result.get("ran") or {}).get("started", "")
                sources.append(f"bench {name} of {started.replace('+00:00', ' UTC')} ({where})")
    if not seconds:
        raise InputError(
            f"{where}: holds no processor time per request; name the folder, or the JSON, of a bench capacity "
            "or throughput"
        )
    return Costs(seconds, "; ".join(sources))


def _results(document: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not isinstance(document, dict):
        return
    if "tables" in document:
        yield document.get("name", "capacity"), document
    for result in document.get("benches") or ():
        yield result["name"], result
    for name, result in document.items():
        if isinstance(result, dict) and "tables" in result:
            yield name, result


def _read(table: Mapping[str, Any], where: str) -> dict[tuple[str, str, int], float]:
    columns = table["columns"]
    found: dict[tuple[str, str, int], float] = {}
    try:
        for row in table["rows"]:
            cells = dict(zip(columns, row, strict=True))
            topology, payload, _ = cells.pop(TOPOLOGY), int(cells.pop(PAYLOAD)), cells.pop(SUM, None)
            for part, cost in cells.items():
                found[topology, part, payload] = max(0.0, float(cost) * _PER_REQUEST)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where}: its table {TITLE!r} cannot be read: {error}; measure anew") from error
    return found
