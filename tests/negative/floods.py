"""``python -m tests.negative.floods``: every flood against every role of a lab; writes docs/records/floods.md.

With ``--only TEXT`` those with TEXT in ``unit: flood``; the other rows stay. Exit status 1 if a unit ends, grows by
more than 300 MB, keeps 35 % more than before, or leaves others unanswered; the page shows what exceeds the aims.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lab import CHECKOUT
from lab.runtime.state import LabState
from lab.transport.channels import open_blocking_channel
from tests.negative.scene import MODEL, Scene, standing
from tests.negative.wire import tls_context
from tests.transport.floods import BACK_WITHIN, FLOODS, GRPC, MOST_GROWTH_MB, Damage, Flood, damage_by

PAGE = CHECKOUT / "docs" / "records" / "floods.md"
UNITS = ("gateway-1", "control-plane", "homepage-resolver", MODEL, "homepage")
ATTACKER = "search"
HEAD = f"""\
# Floods

What one client sends so that a unit's memory grows, by HTTP/2, HPACK, gRPC and REST: against a unit of each role, with
the certificate of another caller. During each flood others ask the unit, ten times a second. A unit may grow by
{MOST_GROWTH_MB:.0f} MB and must be back within {100 * BACK_WITHIN - 100:.0f} % after half a minute; it may not end, and
answers all others. `make floods` tries all and writes this page; `make test` tries the worst.

*Literal headers* are as large here as on the wire: as messages, they are bounded by the unit's ceiling alone. How far a
unit grows before its guard looks depends on what else the machine does.

What the worst did to a unit's servers alone, of 58 MB, before there were bounds and since, in MB:

| flood | peak before | kept after | peak since | kept after |
|---|---|---|---|---|
| 8,000 references to a header of 3,900 bytes | 767 | 767 | 91 | 60 |
| the same, on ten connections | 882 | 885 | 142 | 60 |
| 8,000 references to HPACK's static table | 868 | 868 | 104 | 64 |
| 300 references on 4,000 streams | 359 | 358 | 82 | 60 |
| 50,000 streams, settings not acknowledged | 146 | 146 | 81 | 64 |
| 40 messages that grow from 4 KB to 4 MB | 253 | 73 | 59 | 59 |
| 24 bodies that grow from 60 KB to 60 MB | 455 | 448 | 60 | 59 |

| flood | unit | before, MB | peak, MB | after, MB | lives | others answered | exceeds |
|---|---|---|---|---|---|---|---|
"""


def main() -> int:
    """Writes the page; returns 1 if a flood ends a unit, or nearly does."""
    parser = argparse.ArgumentParser(prog="make floods", description=(__doc__ or "").partition("; writes")[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="those with TEXT in 'unit: flood'")
    only = parser.parse_args().only
    rows = dict(_rows_of(PAGE)) if only else {}
    failed = False
    with tempfile.TemporaryDirectory() as folder, standing(Path(folder)) as scene:
        for unit in UNITS:
            for flood in FLOODS:
                address = address_of(scene, unit, flood)
                if address is None or only not in f"{unit}: {flood.name}":
                    continue
                damage = _damage(scene, unit, flood, address)
                failed = failed or bool(damage.fatal())
                rows[flood.name, unit] = _row(flood, unit, damage)
                sys.stderr.write(rows[flood.name, unit])
    ordered = [rows[flood.name, unit] for unit in UNITS for flood in FLOODS if (flood.name, unit) in rows]
    PAGE.write_text(HEAD + "".join(ordered))
    return int(failed)


def address_of(scene: Scene, unit: str, flood: Flood) -> str | None:
    """The address of a unit for a flood; None if it has no such door."""
    if flood.door == GRPC:
        return scene.units[unit]
    rest = LabState.of(scene.lab.folder).plan.unit(unit).rest
    return rest.outside if rest else None


def _damage(scene: Scene, unit: str, flood: Flood, address: str) -> Damage:
    pid = next(each.pid for each in scene.lab.status().units if each.name == unit)
    with open_blocking_channel(scene.units[unit], scene.security(ATTACKER)) as channel:
        health = health_pb2_grpc.HealthStub(channel)

        def answers() -> bool:
            try:
                return bool(health.Check(health_pb2.HealthCheckRequest(), timeout=5, wait_for_ready=True))
            except grpc.RpcError:
                return False

        for _ in range(20):
            answers()
        return damage_by(flood, address, pid, answers, tls_context(scene.security(ATTACKER)))


def _row(flood: Flood, unit: str, damage: Damage) -> str:
    sizes = " | ".join(f"{each:.0f}" for each in (damage.before_mb, damage.peak_mb, damage.after_mb))
    lives = "yes" if damage.lives else "no"
    answered = f"all but {damage.unanswered}" if damage.unanswered else "all"
    return f"| {flood.name} | {unit} | {sizes} | {lives} | {answered} | {damage.wrong() or '—'} |\n"


def _rows_of(page: Path) -> Iterator[tuple[tuple[str, str], str]]:
    for line in page.read_text().splitlines(keepends=True) if page.exists() else []:
        cells = [each.strip() for each in line.split("|")]
        if len(cells) > 2 and cells[2] in UNITS:
            yield (cells[1], cells[2]), line


if __name__ == "__main__":
    sys.exit(main())
