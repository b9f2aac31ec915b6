"""``lab bench since``."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lab import bounds
from lab.cli.options import Json
from lab.cli.output import console, print_json, say, table
from lab.errors import InputError
from lab.plugins.bench.since.accepted import ACCEPTED, Accepted, Decision, accept, keep, require_clean
from lab.plugins.bench.since.checkout import CACHE, commit_of, here, is_shallow, opened
from lab.plugins.bench.since.figures import FIGURES, MEDIAN, START, TAIL, Figure
from lab.plugins.bench.since.revisions import Change
from lab.plugins.bench.since.rounds import Result, measure
from lab.runs.version import machine_versions

if TYPE_CHECKING:
    from lab.measure.compare import Interval

ROUNDS, MINUTES = 6, 55.0
SHORT_ROUNDS, SHORT_MINUTES = 3, 5.0
_MARKS = {Change.FASTER: "green", Change.SAME: "green", Change.SLOWER: "bold red"}


def since(
    revision: Annotated[
        str, typer.Argument(metavar="REV", help="Commit to compare with; the accepted one by default.")
    ] = "",
    rounds: Annotated[
        int | None,
        typer.Option(min=1, max=bounds.ROUNDS.high, help=f"Rounds; {ROUNDS} by default, {SHORT_ROUNDS} with --short."),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=1.0,
            max=bounds.SECONDS.high,
            help=f"Begin no round that would end later; {MINUTES:g} by default, {SHORT_MINUTES:g} with --short.",
        ),
    ] = None,
    figures: Annotated[str, typer.Option(metavar="A,B", help="Compare only these figures.")] = "",
    short: Annotated[bool, typer.Option("--short", help="Compare fewer figures, in few rounds.")] = False,
    limit: Annotated[
        float | None,
        typer.Option(
            min=1.0,
            max=1_000.0,
            help="Exit with status 1 only if a figure's whole interval is this many times worse; otherwise 0.",
        ),
    ] = None,
    save: Annotated[
        bool, typer.Option("--keep", help="Append the comparison to the history of docs/figures.md.")
    ] = False,
    accepting: Annotated[
        bool, typer.Option("--accept", help=f"Accept this commit's figures: write it into docs/{ACCEPTED.name}.")
    ] = False,
    decision: Annotated[
        Path | None,
        typer.Option(help="Decision that names each figure that is slower, and the commit that made it so."),
    ] = None,
    of: Annotated[
        Path | None, typer.Option("--from", help="Judge what an earlier call has measured, instead of measuring.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare this checkout with another commit of it: faster, same, slower or undecided, figure by figure.

    Each is a checkout with its own environment. A round measures old, new, and old again; both are driven only from
    outside, by their own commands and over gRPC. Each figure's ratio, new / old, has a 95 % interval over rounds.

    Same: the whole interval is within the margin. Slower or faster: the whole interval is beyond it, to the worse or
    the better side. Undecided: anything else, with the number of rounds that would decide it; also if the A/A control,
    old again / old, misses 1 by more than half the margin. Not comparable: one of the two lacks the command, the option
    or the figure.

    Exit status 0: nothing is slower; 1: a figure is; 2: one is undecided or not comparable. Ctrl-C keeps what was
    measured.

    Example: lab bench since v1.2.0 --figures mesh-added-p50,up-mini --rounds 8
    """
    explained = None if decision is None else Decision.read(decision)
    if of is not None:
        result = Result.read(of)
    else:
        if accepting:
            require_clean(here())
        chosen = _chosen(figures, short=short)
        try:
            commit = commit_of(revision or Accepted.read().commit)
        except InputError as error:
            if revision:
                raise
            _without_the_accepted(error, limit)
        with opened(commit, say) as (old, new):
            result = measure(
                old,
                new,
                chosen,
                rounds=rounds or (SHORT_ROUNDS if short else ROUNDS),
                minutes=minutes or (SHORT_MINUTES if short else MINUTES),
                machine=machine_versions({"runtime": "process"}),
                say=say,
            )
        file = CACHE / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
        file.write_text(json.dumps(result.to_document(), indent=1))
        say(f"kept: {file}")
    if save:
        keep(result)
    if as_json:
        print_json(result.to_document())
    else:
        _show(result)
    if accepting:
        accept(result, explained)
    judged = limit is not None and any(result.rounds.values())  # where nothing was measured, nothing is fine
    raise typer.Exit(int(bool(result.slower(limit or 1.0))) if judged else result.exit_status)


def _chosen(names: str, *, short: bool) -> list[Figure]:
    """The figures to compare.

    Raises:
        InputError: there is no such figure.
    """
    wanted = names.split(",") if names else list(FIGURES)
    if unknown := [name for name in wanted if name not in FIGURES]:
        raise InputError(f"--figures: {unknown[0]!r} is not known; there are {', '.join(FIGURES)}")
    return [FIGURES[name] for name in wanted if names or FIGURES[name].short or not short]


def _without_the_accepted(error: InputError, limit: float | None) -> None:
    """Ends the command: a clone without history cannot compare; with it, the accepted commit has to be there."""
    say(f"nothing to compare with: {error}")
    failed = 1 if os.environ.get("CI") and not is_shallow() else 0
    raise typer.Exit(2 if limit is None else failed)


def _show(result: Result) -> None:
    rows = []
    for name in result.rounds:
        figure, found, verdict = FIGURES[name], result.comparison(name), result.verdict(name)
        document = result.to_document()["figures"][name]
        values = [f"{document[place]:.4g}" if document[place] is not None else "–" for place in ("old", "new")]
        ratios = [_ratio(found.ratio), _ratio(found.control)] if found else ["–", "–"]
        rows.append((name, figure.unit, *values, *ratios, str(verdict), result.why(name)))
    headings = ("figure", "unit", "old", "new", "new / old", "control", "verdict", "why")
    console.print(table(headings, rows, right=headings[2:4], folds=("why",)))
    for gap in result.missing:
        console.print(f"missing: {gap}", style="bold yellow", markup=False)
    counts = {change: sum(result.verdict(name) is change for name in result.rounds) for change in Change}
    said = ", ".join(f"{count} {change}" for change, count in counts.items() if count)
    console.print(
        f"\n{result.old[:12]} → {result.new[:12]}{result.new[40:]}: {said}; {result.took_s:.0f} s", markup=False
    )


def _ratio(interval: Interval) -> str:
    return f"{interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


since.__doc__ = (
    f"{since.__doc__}\n\n    Margins: ±{MEDIAN:.0%} of medians, CPU and memory; ±{TAIL:.0%} of a p99; "
    f"±{START:.0%} of what starts processes."
    f"\n\n    Figures: {', '.join(FIGURES)}."
)
