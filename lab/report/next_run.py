"""The command that repeats a run over another topology, so that the two compare. Pure."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lab.load.arrivals import arrivals_to_document
from lab.runs.drive import DEFAULT_CONTEXTS, LoadOptions
from lab.topologies import compared_as

if TYPE_CHECKING:
    from lab.load.plan import LoadPlan

_STREAMS, _EDGE_EVERY = 10, 10  # of `lab load`


def other_topology(topology: str) -> str:
    """The topology that readers compare this one with."""
    central = compared_as("central")
    return compared_as("local") if topology == central else central


def command(plan: LoadPlan, *, lab: str, topology: str, may_call: Sequence[str]) -> str:
    """E.g. ``lab load --topology gateway --rate 60 --duration 20 --payload 27000``; empty if no command repeats it.

    Args:
        plan: of the run to repeat.
        lab: name of its lab.
        topology: to send over instead.
        may_call: the use cases that its caller may call.
    """
    if not plan.engine.scheduled:
        return ""
    of_lab = _given(("--name", lab, "default"))
    return shlex.join(["lab", "load", "--topology", topology, *_options(plan), *_chosen(plan, may_call), *of_lab])


def _chosen(plan: LoadPlan, may_call: Sequence[str]) -> Iterator[str]:
    names = [each.name for each in plan.use_cases]
    if set(names) != set(may_call):
        for name in names:
            yield from ("--use-case", name)


def _options(plan: LoadPlan) -> Iterator[str]:
    usual = LoadOptions(topology="", caller="")
    arrivals = {name: value for name, value in arrivals_to_document(plan.arrivals).items() if value is not None}
    kind = str(arrivals["kind"])
    if "path" in arrivals:
        yield from ("--arrivals", f"trace:{arrivals['path']}")
        yield from _given(("--speedup", arrivals.get("speedup"), 1.0), ("--limit", arrivals.get("limit"), None))
    else:
        yield from ("--rate", f"{arrivals['rate']:g}", "--duration", f"{arrivals['duration_s']:g}")
        yield from _given(("--arrivals", kind, usual.arrivals), ("--payload", plan.payload_bytes, usual.payload_bytes))
    yield from _given(("--caller", plan.caller, "homepage"))
    if plan.contexts != DEFAULT_CONTEXTS:
        for field, choices in plan.contexts.items():
            yield from ("--context", f"{field}={_weighted(choices)}")
    yield from _given(
        ("--users", plan.users, usual.users),
        ("--seed", plan.seed, usual.seed),
        ("--tear-every", plan.tear_every, usual.tear_every),
        ("--drivers", plan.drivers, usual.drivers),
        ("--streams", plan.streams, _STREAMS),
        ("--edge-every", plan.edge_every, _EDGE_EVERY),
    )


def _given(*options: tuple[str, object, object]) -> Iterator[str]:
    """Those options whose value differs from the one that the command takes by itself."""
    for option, value, usual in options:
        if value != usual:
            yield from (option, f"{value:g}" if isinstance(value, float) else str(value))


def _weighted(choices: Sequence[str]) -> str:
    return ",".join(f"{each}*{weight}" if weight > 1 else each for each, weight in Counter(choices).items())
