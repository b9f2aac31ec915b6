"""The latency of one hop between machines, as the bench ``links`` measured it."""

from __future__ import annotations

from pathlib import Path

from lab.errors import InputError
from lab.measure.compare import typical
from lab.plugins.capacity.assumptions import Origin, Quantity
from lab.reading import read_json

BENCH = "links"
"""Name of the bench; its result in a folder is ``links.json``."""

HOP_MS = 0.5
"""One-way delay whose round trip is a hop's, milliseconds; half of it is that of one data centre, as assumed."""

PATH, NO_RELAY = "mesh", "no relay"
"""Topology whose way has one link, and what its variant without relays is called."""


def variant_name(topology: str, delay_ms: float) -> str:
    """Name of a variant of the bench: ``mesh, 0.25 ms``."""
    return f"{topology}, {delay_ms:g} ms"


def measured_hop(folder: Path) -> Quantity | None:
    """What a hop adds whose link takes 0.25 ms one way, by the bench's result in a folder; None if there is none.

    Raises:
        InputError: the file is not the result of that bench.
    """
    file = folder / f"{BENCH}.json"
    if not folder.is_dir() or not file.exists():
        return None
    link_ms = HOP_MS / 2
    try:
        document = read_json(file)
        rounds, day = document["rounds"], document["ran"]["started"][:10]
        first, without = f"{variant_name(PATH, link_ms)}, ", f"{PATH}, {NO_RELAY}, "
        name = next(each for each in rounds if each.startswith(first))
        added_ms = typical(rounds[name]) - typical(rounds[without + name.removeprefix(first)])
    except (OSError, ValueError, LookupError, TypeError, StopIteration) as error:
        raise InputError(f"--from: {file} is not a result of the bench {BENCH}; run it again, or remove it") from error
    source = f"bench {BENCH} of {day}: {name.removeprefix(first)}, a round trip of {HOP_MS:g} ms and the hop itself"
    return Quantity(added_ms, "ms", Origin.MEASURED, source)
