"""Where the milliseconds go: each cause by a pair of ways that differ in nothing else, by size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.bench.result import BenchResult
from lab.bench.ways import DIRECT, STATIC, measured_ways
from lab.measure.pace import pace_of

if TYPE_CHECKING:
    from lab.bench.setting import Setting

NAME = "decomposition"


@dataclass(frozen=True, slots=True)
class Part:
    """One cause, and the pair that isolates it.

    Attributes:
        name: as charts have it.
        more: the arm that pays for it.
        less: the arm that does not.
        differs: what of the two differs.
    """

    name: str
    more: str
    less: str
    differs: str


PARTS = (
    Part("hop", STATIC, DIRECT, "an Envoy with one static cluster stands between caller and model"),
    Part("sidecar's own work", "mesh", STATIC, "routing by a guarded header, log, leases; the hop is the same"),
    Part("parse and re-serialise", "gateway", "gateway-passthrough", "the same gateway passes bytes on unparsed"),
    Part("resolve", "mesh-unleased", "mesh", "the resolver is asked on every call"),
    Part("central, not local", "gateway-header", "mesh", "one Envoy for all callers, not one beside each"),
)


def run(setting: Setting, rounds: int) -> BenchResult:
    """Looks at the rounds of ``topologies``, which are measured if they have not been."""
    ways = measured_ways(setting, rounds)
    parts = [part for part in PARTS if ways.has(part.more, part.less)]
    arms, notes, used = {}, [], {}
    for part in parts:
        for cell in ways.cells:
            one, other = ways.p50_ms(part.more, cell), ways.p50_ms(part.less, cell)
            name = f"{part.name}, {cell}"
            arms[name] = [more - less for more, less in zip(one, other, strict=True)]
            for arm in (part.more, part.less):
                used[f"{arm}, {cell}"] = pace_of(ways.rounds.paces[arm, cell])
    notes += [f"{part.name} = {part.more} − {part.less}: {part.differs}" for part in parts]
    for part in PARTS:
        if missing := " and ".join(arm for arm in (part.more, part.less) if not ways.has(arm)):
            notes.append(f"{part.name}: not measured: this lab has no {missing}")
    notes.append("mTLS: not measured: this lab knows plaintext only")
    return BenchResult(
        name=NAME,
        unit="ms (difference of p50)",
        arms=arms,
        claims=[],
        notes=[f"n = {rounds} rounds, those of the bench topologies", *notes],
        controls=ways.controls,
        paces=used,
    )
