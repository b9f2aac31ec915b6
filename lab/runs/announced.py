"""Who sends requests in a lab: each says the prefix of its ids beforehand, so that a run knows what is nobody's.

Runs and faults announce theirs in ``ids.jsonl`` in the lab's folder, one JSON object a line. Units announce theirs by
their names: a caller sends as ``<caller>.<…>``, and a gateway gives a request without an id one that begins with the
gateway's name.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lab.checkers.evidence import prefix_of
from lab.reading import read_text

if TYPE_CHECKING:
    from lab.history.arrivals import Arrival

_FILE = "ids.jsonl"


def announce(lab: Path, prefix: str, what: str) -> None:
    """Says in a lab's folder who sends requests whose ids begin so, in one write, as other processes may append."""
    with (lab / _FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"prefix": prefix, "what": what}) + "\n")


def announced(lab: Path, arrivals: Iterable[Arrival], units: Collection[str]) -> dict[str, str]:
    """Returns the prefixes of ids among arrivals that somebody has announced, each with who did."""
    try:
        lines = read_text(lab / _FILE).splitlines()
    except FileNotFoundError:
        lines = []
    known = {each["prefix"]: each["what"] for each in map(json.loads, lines)}
    found = {}
    for prefix in sorted({prefix_of(each.request_id) for each in arrivals if each.request_id}):
        unit = prefix.partition(".")[0]
        if who := known.get(prefix) or known.get(unit) or (f"unit {unit}" if unit in units else ""):
            found[prefix] = who
    return found
