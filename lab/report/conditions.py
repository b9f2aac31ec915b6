"""The conditions of a run. Two runs compare their topologies only if nothing else differs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from lab.load.arrivals import arrivals_to_document
from lab.load.plan import OPEN_LOOP, LoadPlan
from lab.reading import read_bytes
from lab.report.scales import size

if TYPE_CHECKING:
    from lab.report.run import ReportedRun

SUBJECT = "topology"
HARMLESS = ("duration",)
"""What may differ: it changes how precise figures are, not their expectation."""

_MACHINE = ("machine", "cpus", "memory", "kernel")
_ENGINE = ("runtime", "docker", "image", "python")


def conditions(run: ReportedRun) -> Mapping[str, str]:
    """Everything that influences a run's figures, by name, the topology first."""
    plan = run.plan
    arrivals = {name: value for name, value in arrivals_to_document(plan.arrivals).items() if value is not None}
    kind = str(arrivals.pop("kind"))
    rate, duration = arrivals.pop("rate", None), arrivals.pop("duration_s", None)
    path = arrivals.pop("path", None)
    if path is not None:
        arrivals["trace"] = PurePath(str(path)).name
    others = ", ".join(f"{name} {value}" for name, value in sorted(arrivals.items()) if name != "seed")
    when = {
        "arrivals": f"{kind}, {others}" if others else kind,
        "rate": f"{run.result.summary.offered or 0:g} rps" if rate is None else f"{rate:g} rps",
        "duration": "its own" if duration is None else f"{duration:g} s",
    }
    if not plan.engine.scheduled:
        when["arrivals"], when["rate"] = plan.engine.in_words, "none offered"
        if plan.engine.by_hand:
            when["duration"] = "its own"
    card = run.versions
    software = {name: card[name] for name in card if name not in (*_MACHINE, *_ENGINE, "lab")}
    return {
        SUBJECT: plan.topology,
        "payload": size(plan.payload_bytes) if path is None else "the trace's",
        **when,
        "caller": plan.caller,
        "use cases": ", ".join(sorted(each.name for each in plan.use_cases)),
        "seed": f"{plan.seed}, of arrivals {arrivals['seed']}" if "seed" in arrivals else f"{plan.seed}",
        "users": f"{plan.users:,}",
        "request contexts": "; ".join(f"{name} {_choices(some)}" for name, some in sorted(plan.contexts.items())),
        "time limit": f"{plan.timeout_s:g} s",
        "torn requests": f"one in {plan.tear_every}" if plan.tear_every else "none",
        "driver": _driver(plan),
        "security": run.security or "not written down",
        "faults": ", ".join(f"{event.target} {event.kind}" for event in run.events if not event.is_step) or "none",
        "machine": _written(card, _MACHINE),
        "runtime": _written(card, _ENGINE),
        "lab version": card.get("lab", "not written down"),
        "software": _written(software, tuple(software)),
    }


def _driver(plan: LoadPlan) -> str:
    if plan.drivers > 1:
        return f"{plan.drivers} drivers"
    engine = plan.engine
    named = () if engine.name == OPEN_LOOP.name else (engine.name,)
    settings = (f"{name} {value}" for name, value in engine.settings.items())
    files = (f"{name} {_digest(path)}" for name, path in engine.files.items())
    return ", ".join((*named, f"{engine.workers} workers" if engine.workers else "1 process", *settings, *files))


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()[:8]
    except OSError:
        return "lost"


def differing(a: Mapping[str, str], b: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """The conditions that differ, except the topology: name, value in ``a``, value in ``b``."""
    names = [name for name in a if name in b and name != SUBJECT]
    return [(name, a[name], b[name]) for name in names if a[name] != b[name]]


def in_words(differences: Sequence[tuple[str, str, str]]) -> str:
    """E.g. ``payload (400 B, 27 KB) and seed (0, 1)``; long values are left out."""
    parts = [
        f"{name} ({one}, {other})" if len(one) + len(other) <= _LONGEST else f"{name} (see the cards)"
        for name, one, other in differences
    ]
    return " and ".join(part for part in (", ".join(parts[:-1]), *parts[-1:]) if part)


_LONGEST = 90


def _written(card: Mapping[str, str], names: Sequence[str]) -> str:
    return ", ".join(f"{name} {card[name]}" for name in names if name in card) or "not written down"


def _choices(some: Sequence[str]) -> str:
    """Each choice once, with its weight if above 1."""
    return ", ".join(f"{choice}*{weight}" if weight > 1 else choice for choice, weight in Counter(some).items())
