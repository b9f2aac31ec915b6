"""The top of a report: one sentence that answers, what of it not to trust, and the charts that show it. Pure.

Of what a report has, the first of these answers: whom a fault reached, what the gateway costs, what a bench claims, how
fast the runs were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.checkers import Claim, Outcome
from lab.measure.control import rounds_to_tell
from lab.report import next_run
from lab.report.conditions import conditions
from lab.report.cost import Cost, Headline, doubts_of
from lab.report.digits import in_two_digits, with_interval
from lab.report.sections import latency

if TYPE_CHECKING:
    from lab.report.bench import ReportedBench
    from lab.report.fault_reach import BlastView
    from lab.report.picture import AnyChart
    from lab.report.run import ReportedRun

_CURVE = "p90, p99 and p99.9 are equally far apart; a line ends at its slowest answer."
_NOT_RIGHT = {
    Claim.CORRECTNESS: {Outcome.INVALID: "routing is wrong", Outcome.UNKNOWN: "routing is not shown to be right"},
    Claim.AVAILABILITY: {
        Outcome.INVALID: "requests failed",
        Outcome.UNKNOWN: "it is not shown that requests are answered",
    },
    Claim.TIMING: {Outcome.INVALID: "latencies are wrong", Outcome.UNKNOWN: "latencies are not to be trusted"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionedChart:
    """A chart at the top, with a heading and what a reader must know to read it."""

    chart: AnyChart
    heading: str
    caption: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The top of a report.

    Attributes:
        sentence: the answer.
        doubts: what of it is wrong or not to trust, why, and what to do.
        advice: what would tell more.
        commands: that do it.
        charts: that show it.
    """

    sentence: str
    doubts: Sequence[tuple[Outcome, str]]
    advice: str = ""
    commands: Sequence[str] = ()
    charts: Sequence[CaptionedChart] = ()


def answer(
    runs: Sequence[ReportedRun], benches: Sequence[ReportedBench], found: Cost, radii: Sequence[BlastView]
) -> Answer:
    """Answers by these runs and benches, of which there must be one."""
    doubts = list(_doubts(runs))
    untimed = list(_doubts(runs, timing=True))
    if radii and not found.tables:
        return Answer(sentence=_sentence(radii[0].headline, runs), doubts=doubts, charts=list(_of_radii(radii)))
    if headlines := next((table.headlines for table in found.tables if table.headlines), None):
        of_bench = next((bench for bench in benches if bench.name == headlines[0].bench), None)
        charts = _curve(runs) if of_bench is None else _of_bench(of_bench)
        return Answer(sentence=_cost(headlines, runs, of_bench), doubts=doubts, charts=list(charts))
    if benches:
        claims = "; ".join(f"{bench.name}: {bench.counts}" for bench in benches)
        return Answer(sentence=_sentence(claims, runs), doubts=[*doubts, *untimed], charts=list(_of_bench(benches[0])))
    advice, commands = _comparison(runs[0]) if len(runs) == 1 else ("", [])
    untimed = [] if len(runs) == 1 else untimed  # the sentence has it
    return Answer(
        sentence=_speed(runs),
        doubts=[*doubts, *untimed, *((Outcome.UNKNOWN, each) for each in found.refusals)],
        advice=advice,
        commands=commands,
        charts=list(_curve(runs)),
    )


def _sentence(said: str, runs: Sequence[ReportedRun], doubt: str = "") -> str:
    """What is said, how far it can be trusted, and whether the answers were right; first, if they were not."""
    counted, is_right = answers_in_words(runs)
    if doubt:
        said = f"{said}; treat ± as a guess: {doubt}"
    parts = [part for part in ((said, counted) if is_right else (counted, said)) if part]
    if doubt or not is_right:
        return " ".join(f"{_capital(part)}." for part in parts)
    return f"{'; '.join(parts)}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def answers_in_words(runs: Sequence[ReportedRun]) -> tuple[str, bool]:
    """E.g. ``all 1,204 answers right``, and whether that is all right; failed requests are counted apart."""
    if not runs:
        return "", True
    outcomes = {run.result.claims[Claim.CORRECTNESS] for run in runs}
    right, wrong, failed = (
        sum(getattr(run.result.counts, name) for run in runs) for name in ("right", "wrong", "failed")
    )
    lost = f", {failed:,} request{'s' * (failed > 1)} failed" if failed else ""
    if failed and all(run.result.claims.get(Claim.AVAILABILITY) is Outcome.VALID for run in runs):
        lost += " for a known cause"
    if wrong:
        return f"{wrong:,} of {right + wrong:,} answers wrong{lost}", False
    if not right:
        return f"no request was answered{lost}", False
    if Outcome.INVALID in outcomes:
        return f"the routing is wrong, though none of {right:,} answers is by itself{lost}", False
    if Outcome.UNKNOWN in outcomes:
        return f"{right:,} answers, not shown to be right{lost}", False
    too_few = {each.too_few.what.partition(":")[0] for run in runs for each in run.result.verdicts if each.too_few}
    return "; ".join([f"all {right:,} answers right{lost}", *sorted(too_few)]), True


def _doubts(runs: Sequence[ReportedRun], *, timing: bool = False) -> Iterator[tuple[Outcome, str]]:
    """For the claims of runs that are not valid, only the timing or all others: which runs, why, and what to do."""
    labels: dict[tuple[Outcome, str], list[str]] = {}
    for run in runs:
        for claim, outcome in run.result.claims.items():
            if outcome is not Outcome.VALID and (claim is Claim.TIMING) == timing:
                said = f"{_NOT_RIGHT[claim][outcome]}, {run.result.doubt(claim)}."
                labels.setdefault((outcome, said), []).append(run.label)
    for (outcome, said), of in labels.items():
        yield outcome, f"{_named(of, len(runs))}: {said}"


def _named(labels: Sequence[str], of: int) -> str:
    if len(labels) == of > 1:
        return "All runs"
    return f"Run{'s' * (len(labels) > 1)} {', '.join(labels)}"


# -- what the gateway costs ------------------------------------------------------------------------------------------


def _cost(headlines: Sequence[Headline], runs: Sequence[ReportedRun], bench: ReportedBench | None = None) -> str:
    first = headlines[0]
    text = "; ".join([first.text, *(each.short for each in headlines[1:])])
    if first.added.doubts:
        return _sentence(text, runs, "; ".join(_of_rounds(first, bench) if bench else _of_runs(runs)))
    return _sentence(text, runs)


def _of_runs(runs: Sequence[ReportedRun]) -> list[str]:
    if any(run.result.counts.wrong for run in runs):
        return ["some are of wrong answers"]
    if all(run.result.outcome is Outcome.VALID for run in runs):
        return [run.result.doubt(Claim.TIMING) for run in runs if not run.is_timed][-1:]
    return [doubt for run in runs for doubt in doubts_of(run)][:1]


def _of_rounds(headline: Headline, bench: ReportedBench) -> list[str]:
    few = next((each.difference.rounds for each in bench.controls if not each.can_tell), 0)
    needed = f"try `lab bench {bench.name} --rounds {rounds_to_tell(max(1, len(bench.controls)))}`"
    reasons = [f"{few} rounds are too few, {needed}"] if few else []
    if any("keep up" in doubt for doubt in headline.added.doubts):
        reasons.append("this machine was busy" if few else f"this machine was busy, {needed} when nothing else runs")
    return reasons or list(headline.added.doubts[:1])


def _comparison(run: ReportedRun) -> tuple[str, list[str]]:
    """What another run would add, and the commands that make it and report both."""
    other = next_run.other_topology(run.plan.topology)
    again = next_run.command(run.plan, lab=run.result.folder.parent.name, topology=other, may_call=run.may_call)
    if not again:
        return "", []
    return (
        f"One run cannot say what a topology costs. These two commands compare it with the {other}:",
        [again, f"lab report runs/{run.folder} runs/{run.result.folder.parent.name}/latest"],
    )


def _speed(runs: Sequence[ReportedRun]) -> str:
    """A sentence on how long the median request took: of one run with its interval, of several the range."""
    timed = sorted((run for run in runs if run.figures), key=lambda run: run.figures["p50"].estimate)
    if not timed:
        return _sentence("", runs)
    if len(timed) == 1:
        (run,) = timed
        p50, under = run.figures["p50"], conditions(run)
        figure = with_interval(p50.estimate, p50.low, p50.high, unit="ms")
        said = f"{_capital(run.plan.topology)} p50 {figure} at {under['payload']}, {under['rate']}"
        return _sentence(said, runs, run.result.doubt(Claim.TIMING))
    ends = (f"{in_two_digits(run.figures['p50'].estimate)} ms ({run.label})" for run in (timed[0], timed[-1]))
    return _sentence(f"p50 {' to '.join(ends)}", runs)


# -- charts ----------------------------------------------------------------------------------------------------------


def _curve(runs: Sequence[ReportedRun]) -> Iterator[CaptionedChart]:
    for chart in latency.charts_of(runs):
        yield CaptionedChart(chart=chart, heading=chart.title, caption=_CURVE)


def _of_bench(bench: ReportedBench) -> Iterator[CaptionedChart]:
    for chart in bench.charts[:1]:
        yield CaptionedChart(chart=chart, heading=_capital(chart.title), caption=f"{chart.note} {bench.origin}")


def _of_radii(radii: Sequence[BlastView]) -> Iterator[CaptionedChart]:
    for each in radii:
        if each.panels:
            yield from (CaptionedChart(chart=panel, heading=panel.title) for panel in each.panels)
        else:
            yield CaptionedChart(chart=each.chart, heading=each.chart.title, caption=f"{each.chart.note} {each.origin}")
