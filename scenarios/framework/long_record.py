"""The page of the long scenarios: when each was last tried, on which commit, and what it showed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scenarios.framework.catalogue import HERE, Entry, entries, results

PAGE = HERE.parent / "docs" / "records" / "long-scenarios.md"
_HEAD = """\
# Long scenarios

Scenarios that take minutes run by night, and at least once before a release: `make scenarios ARGS=--long`, then
`make long-scenarios-page`, which writes this page from the results. [Scenarios](../scenarios.md) says what each shows.

| scenario | case | runtime | verdict | took | figures | begun | lab |
|---|---|---|---|---:|---|---|---|
"""


def page(runs: Path) -> str:
    """The page as Markdown; a scenario that was never tried is in it, too.

    Args:
        runs: as :func:`scenarios.framework.catalogue.results`.
    """
    long = {(each.module, each.name): each for each in entries() if each.long or each.long_on}
    latest: dict[tuple[str, str, str, str], tuple[str, dict[str, Any]]] = {}
    for begun, session in results(runs):
        for result in session:
            entry = long.get((result["module"], result["name"]))
            if entry and (entry.long or result["topology"] in entry.long_on):
                latest[result["module"], result["name"], result["case"], result["runtime"]] = (begun, result)
    rows = [_row(long[key[:2]], *latest[key]) for key in sorted(latest)]
    tried = {key[:2] for key in latest}
    rows += [
        f"| {entry.claim} | – | – | never tried | – | – | – | – |" for key, entry in long.items() if key not in tried
    ]
    return _HEAD + "\n".join(rows) + "\n"


def _row(entry: Entry, begun: str, result: dict[str, Any]) -> str:
    figures = "; ".join(f"{name}: {value}" for name, value in result["figures"].items()) or "–"
    verdict = " ".join(filter(None, (result["verdict"], result["reason"])))
    cells = (
        entry.claim,
        result["case"] or "–",
        result["runtime"],
        verdict,
        f"{result['took_s']:.0f} s",
        figures,
        f"{begun[:4]}-{begun[4:6]}-{begun[6:8]}",
        result.get("lab", "–"),
    )
    return f"| {' | '.join(cell.replace('|', '/').replace(chr(10), ' ') for cell in cells)} |"
