"""``python -m tests.roll.same_version --steps 200``: how often a rollout's last step aborts an equal version on a lab.

Drives two topologies at the same time at a rollout's rate, and takes blocks of ten seconds for steps: of one block,
half of the requests are those of the old version at 50 %, of the next all are those of the new one at 100 %. Then the
model serves half as fast. At most one step of a hundred may meet ``p99>1.5x`` with the same version, and nineteen of
twenty must with the slow one; exit status 1 if not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lab.history import Record, read_parquet
from lab.lab import Lab
from lab.ops.roll.conditions import PATIENCE, Evidence, Standing, parse_conditions
from lab.ops.roll.plan import RollPlan, plan_roll
from lab.ops.roll.probe import balanced, figures, probe_load
from lab.routing.compiled import Router
from lab.routing.shards import clusters_of
from lab.runs import LoadOptions
from models.proto.control.v1 import stub_pb2
from scenarios.framework.steps import set_behaviour
from tests.labs import lab_up

TOPOLOGIES = ("gateway", "mesh")
MODEL, TO = "cw-ranker", "v2"
BLOCK_S, RATE = 10.0, 200.0
SERVICE_MS, SIGMA = 50.0, 0.4  # what path and machine add must not matter beside it
SLOW_STEPS = 20
CALLER = "homepage"
[CONDITION] = parse_conditions("p99>1.5x")


def behaviour(times: float) -> stub_pb2.Behaviour:
    """Log-normal service times, ``times`` as long as at first."""
    return stub_pb2.Behaviour(lognormal=stub_pb2.LognormalLatency(median_ms=times * SERVICE_MS, sigma=SIGMA))


def blocks(records: Iterable[Record]) -> Iterator[list[Record]]:
    """The records by blocks of time; the first one, of a driver that has just started, and the last are left out."""
    by_block: dict[int, list[Record]] = {}
    for each in records:
        by_block.setdefault(int(each.intended_ns / 1e9 / BLOCK_S), []).append(each)
    yield from [by_block[number] for number in sorted(by_block)][1:-1]


def at_half(records: list[Record], router: Router, plan: RollPlan) -> Evidence:
    """The step before the last: each version gets every other request of those that are rolled."""
    half = [each for each in records if each.use_case not in plan.before or each.sequence % 4 < 2]
    return figures(half, router, plan)


def at_all(records: list[Record], before: Evidence, router: Router, plan: RollPlan) -> Evidence:
    """The last step; the rules still name the old version, which is the new one here."""
    seen = figures(records, router, plan)
    return Evidence(new=seen.old, other=seen.other, before=before)


def steps_in(
    blocks: Sequence[list[Record]],
    always: list[Record] | None,
    judged: Callable[[list[Record], list[Record]], Evidence],
) -> Iterator[Standing]:
    """The standing of each step, one after the other: it lasts for a block, and for more while it is undecided.

    Args:
        blocks: of one run.
        always: the block before each step; the one that comes before it if left out.
        judged: evidence of a block, after the block before.
    """
    first = 0 if always else 1
    while first < len(blocks):
        before = always or blocks[first - 1]
        evidence = judged(blocks[first], before)
        for more in blocks[first + 1 : first + PATIENCE]:
            if CONDITION.judge(evidence).found.settled:
                break
            evidence, first = evidence.with_more(judged(more, before)), first + 1
        found = CONDITION.judge(evidence)
        first += 1
        if found.found.settled or first < len(blocks):  # the last one may have been cut off
            yield found.standing


def main() -> int:
    """Prints how many steps met the condition."""
    parser = argparse.ArgumentParser(prog="python -m tests.roll.same_version")
    parser.add_argument("--steps", type=int, default=200, help="of the same version [%(default)d]")
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as home, lab_up(Path(home), topologies=TOPOLOGIES) as lab:
        document = lab.routes.show().document or {}
        plan = plan_roll(document, model=MODEL, to=TO, steps=(100,))
        router = Router.of_document(document)

        def drive(count: int) -> list[list[list[Record]]]:
            duration_s = BLOCK_S * (-(-count // len(TOPOLOGIES)) + 3)
            loads = [LoadOptions(topology=each, caller=CALLER, rate=RATE, duration_s=duration_s) for each in TOPOLOGIES]
            probes = [balanced(probe_load(each, document, plan, [CALLER]), router, plan) for each in loads]
            runs = lab.load_parallel(probes).runs
            return [list(blocks(read_parquet(run.folder / "history.parquet"))) for run in runs]

        def judged(block: list[Record], before: list[Record]) -> Evidence:
            return at_all(block, at_half(before, router, plan), router, plan)

        set_behaviour(lab, behaviour(1))
        same = drive(steps + steps // 10)
        for reference in plan.old:
            slow_down(lab, document, reference)
        slow = drive(2 * SLOW_STEPS)
    equal = [each for run in same for each in steps_in(run, None, judged)][:steps]
    slower = [each for run, its in zip(same, slow, strict=True) for each in steps_in(its, run[-1], judged)][:SLOW_STEPS]
    for what, standings in (("the same version", equal), ("one that takes twice as long", slower)):
        counts = Counter(map(str, standings))
        judged_as = ", ".join(f"{counts[each]} {each}" for each in Standing)
        sys.stdout.write(f"{what}: {len(standings)} steps: {judged_as}\n")
    is_whole = len(equal) == steps and len(slower) == SLOW_STEPS
    return int(not is_whole or equal.count(Standing.MET) > steps // 100 or slower.count(Standing.MET) < SLOW_STEPS - 1)


def slow_down(lab: Lab, document: dict[str, Any], reference: str) -> None:
    """Lets the replicas of a version serve half as fast."""
    model, _, version = reference.partition("@")
    for cluster in clusters_of(document["models"][model]["versions"][version]["cluster"]).values():
        set_behaviour(lab, behaviour(2), cluster)


if __name__ == "__main__":
    sys.exit(main())
