"""``lab scale``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lab.bench.scale.run import ScaleOptions, run
from lab.bounds import RATE, SECONDS, SEED
from lab.cli.options import Json
from lab.cli.output import console, print_json, say
from lab.cli.verdicts import EXIT_STATUS

if TYPE_CHECKING:
    from lab.bench.scale.run import ScaleResult

_DEFAULT = ScaleOptions()


def scale(
    clusters: Annotated[
        int, typer.Option(min=1, max=100_000, help="Model clusters, each with its own addresses.")
    ] = _DEFAULT.clusters,
    callers: Annotated[
        int, typer.Option(min=1, max=1_000, help="Callers, each with an Envoy sidecar.")
    ] = _DEFAULT.callers,
    use_cases: Annotated[int, typer.Option(min=1, max=100_000, help="Use cases.")] = _DEFAULT.use_cases,
    seed: Annotated[
        int,
        typer.Option(min=SEED.low, max=SEED.high, help="Seed of the generated route table and of all random draws."),
    ] = _DEFAULT.seed,
    seconds: Annotated[
        float, typer.Option(min=1.0, max=SECONDS.high, help="Seconds of traffic under churn.")
    ] = _DEFAULT.seconds,
    rate: Annotated[
        float, typer.Option(min=1.0, max=RATE.high, help="Requests per second of all callers together.")
    ] = _DEFAULT.rate,
    changes: Annotated[
        float, typer.Option(min=20.0, max=10_000.0, help="Changes of replicas and routes per second.")
    ] = _DEFAULT.changes,
    as_json: Json = False,
) -> None:
    """Run a lab far larger than this machine: thousands of clusters on one model host, real Envoys and control plane.

    All callers send traffic while replicas come and go, models move and rules change; every answer is judged. Then a
    sidecar is frozen and the control plane killed. Exit status 1 if an answer was wrong, 2 if the evidence is too thin.

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
            changes=changes,
        ),
        say,
    )
    if as_json:
        print_json(result.to_document())
    else:
        _show(result)
    raise typer.Exit(EXIT_STATUS[result.traffic.outcome])


def _show(result: ScaleResult) -> None:
    for name, value in result.to_document().items():
        if name == "verdicts":
            for each in value:
                console.print(f"{each['checker']}: {each['outcome']}: {each['summary']}", markup=False)
        else:
            console.print(f"{name.replace('_', ' ')}: {_written(value)}", markup=False)


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_written(each)}" for name, each in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)
