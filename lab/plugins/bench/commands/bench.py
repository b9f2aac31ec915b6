"""``lab bench``."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from lab import CHECKOUT, bounds
from lab.cli.options import Json, with_options
from lab.cli.output import console, print_json, result_table, say
from lab.errors import InputError, LabError
from lab.measure.pace import in_words
from lab.plugins.bench.commands.claims import in_bold, show_claim
from lab.plugins.bench.harness.bench import BENCHES, ROUNDS, TOPOLOGIES_OPTION, Bench, benches_named, measure
from lab.plugins.bench.harness.environment import open_environment
from lab.plugins.bench.harness.result import BenchResult, exit_status
from lab.report.picture import file_name, to_svg, write_pictures
from lab.runs.folder import create, new_run_folder
from lab.topologies import TOPOLOGIES

_YARDSTICK = "direct"  # in the lab of every bench, whichever topologies it compares


def bench(
    names: Annotated[
        list[str] | None, typer.Argument(help="Benches, or groups of them, such as trust; all by default.")
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            min=bounds.ROUNDS.low,
            max=bounds.ROUNDS.high,
            help=f"Interleaved rounds of each; {ROUNDS}, or the bench's own, by default.",
        ),
    ] = None,
    as_json: Json = False,
    **options: str,
) -> None:
    """Measure claims about cost against their yardsticks, in a lab of its own.

    Exit status 1 if a claim does not hold; 2 if one is undecided (its interval holds the bound, the driver was
    late, the A/A control disagrees) or a trial failed. Ctrl-C ends the rounds, and keeps what was measured.

    Example: lab bench topologies decomposition --rounds 12

    Which callers does a fault reach? lab bench blast-radius --topologies gateway,mesh --faults sidecar-killed
    """
    benches = list(dict.fromkeys(each for name in names or BENCHES for each in benches_named(name)))
    given = {keyword: text for keyword, text in options.items() if text}
    values = {each.name: _values_for(each, given) for each in benches}
    chosen = next(iter(values.values())).get(TOPOLOGIES_OPTION.keyword, [])
    by_default = [each.name for each in TOPOLOGIES.values() if each.in_default_lab]
    topologies = [each for each in chosen if each in TOPOLOGIES] or by_default
    for each in benches:
        if too_few := each.too_few(rounds or each.rounds):
            say(f"bench {each.name}: {too_few}")
    results: list[BenchResult] = []
    folder = new_run_folder(CHECKOUT / "runs" / "bench")
    create(folder)
    with open_environment(say, topologies=list(dict.fromkeys((_YARDSTICK, *topologies)))) as environment:
        for each in benches:
            if environment.interrupted:
                results.append(_unmeasured(each, "interrupted before it began"))
                continue
            say(f"bench {each.name}")
            try:
                result = measure(each, environment, rounds or each.rounds, **values[each.name])
            except (LabError, KeyboardInterrupt) as error:
                if not results and each is benches[-1]:
                    raise
                result = _unmeasured(each, str(error) or "interrupted")
            _keep(result, folder)
            results.append(result)
    if as_json:
        print_json({"run_dir": str(folder), "benches": [result.to_document() for result in results]})
    else:
        for result in results:
            _show(result)
        console.print(f"\n{folder}\nlab report {folder} shows them as a page", markup=False)
    raise typer.Exit(exit_status(results))


def _option_parameters() -> Iterator[inspect.Parameter]:
    """One parameter per option name; its help names the benches that have it."""
    benches_with: dict[str, list[str]] = {}
    by_keyword = {}
    for each in BENCHES.values():
        for option in each.options:
            by_keyword[option.keyword] = option
            benches_with.setdefault(option.keyword, []).append(each.name)
    for keyword, option in by_keyword.items():
        text = f"{option.help} For {', '.join(benches_with[keyword])}. Values: {', '.join(option.choices())}."
        info = typer.Option(f"--{option.name}", metavar="A,B", help=text, rich_help_panel="Options of benches")
        yield inspect.Parameter(keyword, inspect.Parameter.KEYWORD_ONLY, default="", annotation=Annotated[str, info])


def _values_for(chosen: Bench, given: Mapping[str, str]) -> dict[str, Sequence[str]]:
    """The values of a bench's options.

    Raises:
        InputError: the bench has no such option, or a value is not allowed.
    """
    own = {option.keyword: option for option in chosen.options}
    if strange := [keyword for keyword in given if keyword not in own]:
        having = [each.name for each in BENCHES.values() if strange[0] in {option.keyword for option in each.options}]
        raise InputError(
            f"--{strange[0].replace('_', '-')}: bench {chosen.name} has no such option; only {', '.join(having)} "
            f"{'has' if len(having) == 1 else 'have'} it"
        )
    return {keyword: own[keyword].parse(text) for keyword, text in given.items()}


def _unmeasured(bench: Bench, reason: str) -> BenchResult:
    return BenchResult(name=bench.name, unit="as named", samples={}, claims=[], notes=[], missing=[reason])


def _keep(result: BenchResult, folder: Path) -> None:
    (folder / f"{result.name}.json").write_text(json.dumps(result.to_document(), indent=1))
    for chart in result.shown_charts():
        write_pictures(to_svg(chart, result.origin), folder / f"{result.name}-{file_name(chart)}")


def _show(result: BenchResult) -> None:
    console.print(f"\n[bold]{result.name}[/bold]")
    for each in result.shown_tables():
        console.print(each.title, style="bold", markup=False)
        console.print(result_table(each))
        console.print()
    for claim in result.claims:
        show_claim(claim)
    silent = [each for each in result.controls if not each.can_tell]
    if silent:
        of_all = f"{len(silent)} of {len(result.controls)} comparisons"
        console.print(f"A/A control, {of_all}: [yellow]{silent[0].verdict}: {silent[0].difference.rounds}[/yellow]")
    for control in (each for each in result.controls if each.can_tell):
        style = "" if control.agrees else "[bold white on red]"
        mark = f"{style}{control.verdict}{style and '[/]'}"
        console.print(f"A/A control, {control.text}: {in_bold(control.difference)}: {mark}")
    if result.paces:
        console.print(in_words(result.paces), markup=False)
    for gap in result.missing:
        console.print(f"missing: {gap}", style="bold yellow", markup=False)
    for note in (*result.notes, *([str(result.ran)] if result.ran else [])):
        console.print(f"[dim]{note}[/dim]")


def _describe_benches() -> None:
    """Adds the options of every bench to the command, and their questions to its help."""
    with_options(bench, _option_parameters())
    questions = "\n\n".join(f"{each.title}: {each.question}" for each in BENCHES.values())
    bench.__doc__ = f"{inspect.getdoc(bench)}\n\n{questions}"


_describe_benches()
