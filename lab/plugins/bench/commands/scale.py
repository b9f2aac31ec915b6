"""``lab scale``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lab.bounds import RATE, SECONDS, SEED
from lab.cli import JUDGING
from lab.cli.options import Json
from lab.cli.output import console, print_json, say
from lab.cli.verdicts import EXIT_STATUS
from lab.load.plan import MAX_PROCESSES
from lab.measure.findings import State
from lab.plugins.bench.commands.claims import show_claim
from lab.plugins.bench.scale.run import DEFAULT, ScaleOptions, ScaleResult, run

JUDGING.add("scale")


def scale(
    clusters: Annotated[
        int, typer.Option(min=1, max=100_000, help="Model clusters, each with its own addresses.")
    ] = DEFAULT.clusters,
    callers: Annotated[
        int, typer.Option(min=1, max=1_000, help="Callers, each with an Envoy sidecar.")
    ] = DEFAULT.callers,
    use_cases: Annotated[int, typer.Option(min=1, max=100_000, help="Use cases.")] = DEFAULT.use_cases,
    seed: Annotated[
        int,
        typer.Option(min=SEED.low, max=SEED.high, help="Seed of the generated route table and of all random draws."),
    ] = DEFAULT.seed,
    seconds: Annotated[
        float, typer.Option(min=1.0, max=SECONDS.high, help="Seconds of traffic under churn.")
    ] = DEFAULT.seconds,
    rate: Annotated[
        float, typer.Option(min=1.0, max=RATE.high, help="Requests per second of all callers together.")
    ] = DEFAULT.rate,
    drivers: Annotated[
        int, typer.Option(min=1, max=MAX_PROCESSES, help="Drivers, among which the callers are shared.")
    ] = DEFAULT.drivers,
    changes: Annotated[
        float, typer.Option(min=20.0, max=10_000.0, help="Changes of replicas and routes per second.")
    ] = DEFAULT.changes,
    as_json: Json = False,
) -> None:
    """Run a lab far larger than this machine: thousands of clusters on one model host, real Envoys and control plane.

    All callers send traffic while replicas come and go, models move and rules change; every answer and every failure
    is judged. Then a sidecar is frozen and the control plane killed. A run of the default size shows next to each
    figure what is wanted of two cores. Exit status 1 if an answer was wrong, a failure has no cause or a figure is not
    as wanted; 2 if the evidence is too thin.

    Example: lab scale --clusters 10000 --callers 30 --use-cases 2000 --seed 1
    """
    result = run(
        ScaleOptions(
            clusters=clusters,
            callers=callers,
            use_cases=use_cases,
            seed=seed,
            seconds=seconds,
            rate=rate,
            drivers=drivers,
            changes=changes,
        ),
        say,
    )
    if as_json:
        print_json(result.to_document())
    else:
        _show(result)
    states = {claim.state for claim in result.claims}
    wanted = 1 if State.FAILS in states else 2 if State.UNDECIDED in states else 0
    raise typer.Exit(min(filter(None, (EXIT_STATUS[result.traffic.outcome], wanted)), default=0))


def _show(result: ScaleResult) -> None:
    for name, value in result.to_document().items():
        if name not in ("verdicts", "claims"):
            console.print(f"{name.replace('_', ' ')}: {_written(value)}", markup=False)
    for each in result.traffic.verdicts:
        console.print(f"{each.checker}: {each.outcome}: {each.summary}", markup=False)
    for claim in result.claims:
        show_claim(claim)


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_written(each)}" for name, each in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)
