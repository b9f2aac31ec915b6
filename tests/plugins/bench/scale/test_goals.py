"""What is wanted of a scale run of the default size stands next to what was measured, and decides the exit status."""

import json
from dataclasses import replace
from typing import Any

import pytest
import typer

from docs.site.figures import texts
from docs.site.measuring import failing, figures_of
from lab.checkers import Outcome, Verdict
from lab.load.summary import summarize
from lab.measure.findings import State
from lab.plugins.bench.commands import scale
from lab.plugins.bench.scale.goals import goals
from lab.plugins.bench.scale.run import DEFAULT, ScaleResult
from lab.plugins.bench.scale.traffic import Traffic

CHURN = {"changes_per_s": 99.4, "control_plane_cores": 0.2, "control_plane_rss_mb": 187.0}
FIGURES: dict[str, Any] = {"publish_cpu_s": 0.9, "churn": CHURN, "took_s": 131.0}
MOVES_MS = [80.0 + number % 15 for number in range(200)]


def traffic(*, ok: int = 68_713, failed: int = 0, outcome: Outcome = Outcome.VALID) -> Traffic:
    summary = replace(summarize([], None, came_due=ok + failed), ok=ok, failed=failed)
    return Traffic(summary, (Verdict("answered", outcome, "as it is"),), 0, 1_549, 30, {})


def states(seen: Traffic, moves_ms: list[float] = MOVES_MS, **changes: Any) -> dict[str, State]:
    return {each.text: each.state for each in goals({**FIGURES, **changes}, seen, {"move_alone_ms": moves_ms})}


def test_a_run_as_it_once_was_is_as_wanted() -> None:
    assert set(states(traffic()).values()) == {State.HOLDS}


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"seen": traffic(ok=32_277)}, "right answers"),
        ({"seen": traffic(failed=53)}, "failed requests"),
        ({"publish_cpu_s": 1.96}, "publish of the whole table, control plane's processor time, s"),
        (
            {"moves_ms": [450.0 + each for each in MOVES_MS]},
            "one move to the last sidecar, without traffic, p99, ms",
        ),
        ({"churn": {**CHURN, "changes_per_s": 85.6}}, "changes a second"),
        ({"churn": {**CHURN, "control_plane_cores": 0.916}}, "control plane under churn, cores"),
        ({"churn": {**CHURN, "control_plane_rss_mb": 420.0}}, "control plane under churn, MB"),
        ({"took_s": 437.0}, "whole run, s"),
    ],
)
def test_each_figure_that_is_not_as_wanted_is_named(changes: dict[str, Any], missed: str) -> None:
    found = states(**{"seen": traffic(), **changes})

    assert [text for text, state in found.items() if state is State.FAILS] == [missed]


def test_a_page_has_what_is_wanted_and_the_nightly_names_what_is_not() -> None:
    seen = traffic(failed=53)
    claims = goals(FIGURES, seen, {"move_alone_ms": MOVES_MS})
    document = json.loads(json.dumps(ScaleResult(DEFAULT, FIGURES, seen, claims).to_document()))
    ran = {"started": "2026-01-02T03:04:05+00:00", "took_s": 1.0, "rounds": 1, "machine": {}}

    kept = {"scale": figures_of({"ran": ran, "claims": document["claims"], "tables": []})}

    assert "| right answers | 68,713 [68,713, 68,713] | ≥ 50,000: holds |" in texts(kept)["figures.scale"]
    assert failing(kept) == ["scale: failed requests: 53 [53, 53], ≤ 0: does not hold"]


@pytest.mark.parametrize(
    ("seen", "moves_ms", "status"),
    [
        (traffic(), MOVES_MS, 0),
        (traffic(failed=53), MOVES_MS, 1),
        (traffic(), [*MOVES_MS[:-2], 150.0, 150.0], 2),  # the p99 may be on either side of its bound
        (traffic(outcome=Outcome.UNKNOWN), MOVES_MS, 2),
        (traffic(failed=53, outcome=Outcome.UNKNOWN), MOVES_MS, 1),
    ],
)
def test_a_figure_that_is_not_as_wanted_fails_the_command(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    seen: Traffic,
    moves_ms: list[float],
    status: int,
) -> None:
    claims = goals(FIGURES, seen, {"move_alone_ms": moves_ms})
    monkeypatch.setattr(scale, "run", lambda *_: ScaleResult(DEFAULT, FIGURES, seen, claims))

    with pytest.raises(typer.Exit) as ended:
        scale.scale()

    assert ended.value.exit_code == status
    shown = capsys.readouterr().out
    assert all(claim.text in shown and claim.bound in shown for claim in claims)
