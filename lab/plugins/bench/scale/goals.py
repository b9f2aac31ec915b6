"""What is wanted of a scale run of the default size on two cores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lab.checkers import Outcome
from lab.measure.compare import exactly, quantile
from lab.measure.findings import Claim

if TYPE_CHECKING:
    from lab.plugins.bench.scale.traffic import Traffic

RIGHT_ANSWERS = 50_000
PUBLISH_CPU_S = 1.0
MOVE_P99_MS = 100.0
CHANGES_PER_S = 99.0  # of a hundred
CORES, RSS_MB = 0.5, 400.0
WHOLE_S = 300.0


def goals(figures: Mapping[str, Any], traffic: Traffic, samples: Mapping[str, Sequence[float]]) -> list[Claim]:
    """Returns what is wanted next to what was measured.

    Args:
        figures: see :class:`lab.plugins.bench.scale.run.ScaleResult`.
        traffic: judged.
        samples: ms of each move without traffic, ``move_alone_ms``.
    """
    churn, answered = figures["churn"], traffic.summary
    at_least = (
        ("right answers", answered.ok - traffic.misrouted, RIGHT_ANSWERS),
        ("changes a second", churn["changes_per_s"], CHANGES_PER_S),
    )
    at_most = (
        ("wrong answers", traffic.misrouted, 0),
        ("failed requests", answered.failed, 0),
        ("invalid verdicts", sum(each.outcome is Outcome.INVALID for each in traffic.verdicts), 0),
        ("publish of the whole table, control plane's processor time, s", figures["publish_cpu_s"], PUBLISH_CPU_S),
        ("control plane under churn, cores", churn["control_plane_cores"], CORES),
        ("control plane under churn, MB", churn["control_plane_rss_mb"], RSS_MB),
        ("whole run, s", figures["took_s"], WHOLE_S),
    )
    claims = [
        *(Claim(text, exactly(value, rounds=1), at_least=bound) for text, value, bound in at_least),
        *(Claim(text, exactly(value, rounds=1), at_most=bound) for text, value, bound in at_most),
    ]
    if alone := samples["move_alone_ms"]:
        text = "one move to the last sidecar, without traffic, p99, ms"
        claims.append(Claim(text, quantile(alone, 0.99), at_most=MOVE_P99_MS))
    return claims
