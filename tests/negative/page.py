"""``python -m tests.negative.page`` tries every attack with and without its guards; writes docs/records/refusals.md.

``--only TEXT`` tries those with this text in ``topology: attack, unit``, and keeps the other rows.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab import CHECKOUT
from tests.negative.cases import CASES
from tests.negative.guards import Layers, guard_of, guards, layers
from tests.negative.scene import Case, Tried, standing
from tests.tools import run_tool

PAGE = CHECKOUT / "docs" / "records" / "refusals.md"
HEAD = """\
# Refusals

Everything that must be refused: the attack, the topology through which it was tried, the unit that refused it, and the
client's error. The lab has certificates (the default of `lab up`), real Envoy and real gRPC. After each attack the next
legitimate call through the same topology is answered. `make refusals-page` tries all attacks and writes this page; the
test suite tries them all and verifies status and reason of each row.

If a gRPC server aborts a handshake, the client gets `UNAVAILABLE` without a reason; the reason here is from the
server's log. `RESET` and `CLOSED` are HTTP/2 events: the stream or the connection was ended, which gRPC clients see as
`UNAVAILABLE` or `INTERNAL`; the reason is the Envoy counter that increased. `OK` means that there is nothing to refuse:
what was sent has no effect. `REFUSED` is the operating system's own refusal. The bounds are 64 MiB per message, 16 KiB
of headers, 100 headers at an Envoy, 1,024 streams per connection, and 10 s for a handshake or for the headers.

*Without it* is the answer to the same attack in a lab from which the guard was taken away, by the edits in
`tests/negative/guards.toml`: every attack gets through there. If other guards stand behind it, they are taken away as
well, and *behind it* names them: each, tried alone, refuses the attack with the status given, as does the guard itself.
`OPEN` means that the attack went on for as long as it was watched. Envoy's codec cannot be taken away: its attacks went
to an HTTP/2 server that checks no headers. Times are of the whole attempt, connection included; memory is the unit's
resident set before and after.

| attack | topology | refused by | status | reason | ms | MB | guard | behind it | without it |
|---|---|---|---|---|---|---|---|---|---|
"""
_AT_ONCE = 2


def main() -> int:
    """Writes the page; returns 1 unless every attack is refused, and gets through without its guards."""
    parser = argparse.ArgumentParser(
        prog="make refusals-page",
        description="Tries every attack, with its guard and without, and writes docs/records/refusals.md.",
        epilog="Example: make refusals-page ARGS='--only resets'",
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="attacks with TEXT in 'topology: attack, unit'")
    only = parser.parse_args().only
    cases = [case for case in CASES if only in case.name]
    wrong, tried = list[str](), dict[str, Tried]()
    with tempfile.TemporaryDirectory() as folder, standing(Path(folder)) as scene:
        for case in cases:
            tried[case.name] = case.tried(scene)
            refused = case.is_refused(tried[case.name].answer)
            if wanting := scene.good_call(case.way) if refused else f"got {tried[case.name].answer}":
                wrong.append(f"{case.name}: {wanting}")
    tested = [guard for guard in guards() if guard in map(guard_of, cases)]
    shown = dict[str, Layers]()
    with ThreadPoolExecutor(_AT_ONCE) as labs:
        for found in labs.map(layers, tested):
            shown[found.guard.name] = found
            wrong += (objections := found.objections())
            _say(f"without {found.guard.name}: {len(found.open)} attacks, {len(objections)} objections")
    for each in wrong:
        _say(each)
    kept = PAGE.read_text().splitlines(keepends=True)
    lines = [
        [_line(case, tried[case.name], shown[guard_of(case).name])]
        if case in cases
        else [row for row in kept if case.is_on(row)]
        for case in CASES
    ]
    PAGE.write_text(HEAD + "".join(row for rows in lines for row in rows))
    return bool(wrong)


def _line(case: Case, tried: Tried, shown: Layers) -> str:
    memory = f"{tried.before_mb:.0f} → {tried.after_mb:.0f}"
    behind = ", ".join(f"{name}: {answer.status}" for name, answer in shown.behind(case).items()) or "—"
    answer, guard = shown.open[case.name].answer, shown.guard
    end = f"{answer.status}: {case.printable(answer.reason, 80)}" if answer.reason else answer.status
    more = (f"{tried.took_ms:.0f}", memory, guard.why or guard.name, behind, end)
    return f"{case.row(tried.answer)} {' | '.join(more)} |\n"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 (a command)


if __name__ == "__main__":
    sys.exit(run_tool(main))
