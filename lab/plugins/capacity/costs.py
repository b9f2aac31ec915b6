"""Processor time per request, by topology and part, as measured by a bench."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lab.errors import InputError
from lab.plugins.capacity.assumptions import Origin, Quantity, computed

TITLE = "CPU seconds per 1,000 requests, median over rounds"
"""Title of the tables in which benches keep costs."""

TOPOLOGY, PAYLOAD, SUM = "topology", "payload, B", "sum"
"""Columns of such a table besides those of the parts."""

CALLER = "caller"
"""The part that sends: the client library in a load driver."""

_PER_REQUEST = 1e-3


class Costs:
    """Costs of requests.

    Args:
        seconds: (topology, part, payload bytes) → processor time of a request, seconds.
        source: where and when they were measured.
    """

    def __init__(self, seconds: Mapping[tuple[str, str, int], float], source: str) -> None:
        self._seconds, self._source = dict(seconds), source

    @property
    def topologies(self) -> list[str]:
        """Names of the measured topologies."""
        return list(dict.fromkeys(topology for topology, _, _ in self._seconds))

    def has(self, topology: str, part: str) -> bool:
        """Whether this part of a topology was measured."""
        return any((topology, part) == key[:2] for key in self._seconds)

    def borrowing(self, topology: str, part: str, *, of: tuple[str, str]) -> Costs:
        """The same costs, but a topology's part costs what another topology's part does: ``of`` names these two."""
        borrowed = {(topology, part, key[2]): cost for key, cost in self._seconds.items() if key[:2] == of}
        kept = {key: cost for key, cost in self._seconds.items() if key[:2] != (topology, part)}
        return Costs(kept | borrowed, f"{part} at the cost of {' in '.join(reversed(of))}: {self._source}")

    def at(self, topology: str, part: str, payload_bytes: int) -> Quantity:
        """Processor time of a request, seconds: measured, or interpolated between two measured sizes.

        Raises:
            InputError: it was not measured, or at one other size only.
        """
        known = sorted((key[2], cost) for key, cost in self._seconds.items() if key[:2] == (topology, part))
        if not known:
            raise InputError(f"{topology}: the cost of its part {part!r} is not known; measure it again")
        if payload_bytes in dict(known):
            return Quantity(dict(known)[payload_bytes], "s", Origin.MEASURED, self._source)
        if len(known) == 1:
            raise InputError(
                f"--payload: {payload_bytes} B was not measured, only {known[0][0]} B ({self._source}); leave "
                "--from out, or take a run of the bench capacity"
            )
        # The line through the two sizes around it, or through the nearest two beyond the ends.
        above = next((place for place, (size, _) in enumerate(known) if size > payload_bytes), len(known) - 1)
        (low, cost), (high, more) = known[max(above, 1) - 1 : max(above, 1) + 1]
        value = cost + (more - cost) * (payload_bytes - low) / (high - low)
        return computed(max(value, 0.0), "s", f"on the line through {low} and {high} B: {self._source}")


def costs_of(document: Any, where: str) -> Costs:
    """Reads them from what a bench leaves: its own file, what ``lab bench --json`` prints, or ``docs/figures.json``.

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
        raise InputError(f"{where}: its table {TITLE!r} cannot be read: {error}; measure again") from error
    return found
