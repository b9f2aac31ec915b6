"""``python -m docs.site.travels`` writes docs/travels.md: the log lines of one real request through each topology."""

from __future__ import annotations

import json
import secrets
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from docs.site.blocks import write
from docs.site.links import PAGES
from lab.lab import Lab

if TYPE_CHECKING:
    from lab.ops.inspect import LogLine

PAGE = PAGES / "travels.md"
_WHEN = ("time", "at")
_WIDTH = 80
# A space at which lines are not broken.
_TIE = "\N{NO-BREAK SPACE}"


def travel(lab: Lab) -> dict[str, list[LogLine]]:
    """Sends the page's request through each topology of a lab that logs requests: name of the block → log lines.

    The first request through ``mesh`` asks the resolver, because there is no lease yet; the second one uses the lease.
    """

    def ask(topology: str) -> list[LogLine]:
        answer = lab.call(
            "ContinueWatchingRanking",
            topology=topology,
            caller="homepage",
            context={"user_id": "u1", "device": "tv", "country": "US"},
        )
        return lab.logs(answer.request_id)

    return {"travels.mesh": ask("mesh"), "travels.mesh-leased": ask("mesh"), "travels.gateway": ask("gateway")}


def written(lines: Sequence[LogLine]) -> str:
    """Log lines as the page shows them."""
    return "\n".join(("```text", *(_written(line) for line in lines), "```"))


def _written(line: LogLine) -> str:
    text = ", ".join(f"{field}:{_TIE}{_value(line.fields[field])}" for field in fields_of(line.fields))
    body = textwrap.fill(text, _WIDTH, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
    return f"{line.unit} ({line.role})\n{body}".replace(_TIE, " ")


def fields_of(fields: Mapping[str, object]) -> list[str]:
    """Names of the fields that the page shows, the id first."""
    shown = [field for field, value in fields.items() if field not in _WHEN and value is not None]
    return sorted(shown, key=lambda field: field != "request_id")


def _value(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def main() -> None:
    """Writes the page's blocks."""
    with tempfile.TemporaryDirectory() as home:
        lab = Lab(f"travels-{secrets.token_hex(3)}", home=Path(home))
        try:
            lab.up(spec=Path("mini"), runtime="process", log_requests=True)
            write(PAGE, {name: written(lines) for name, lines in travel(lab).items()})
        finally:
            lab.down()


if __name__ == "__main__":
    main()
