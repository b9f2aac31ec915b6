"""``lab capacity``."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lab.bench.harness.environment import open_environment
from lab.bench.harness.result import BenchResult, exit_status
from lab.bench.harness.validation import validate
from lab.bench.suites import capacity as bench
from lab.capacity.assumptions import ASSUMPTIONS, Assumptions
from lab.capacity.costs import costs_of
from lab.capacity.fleet import Demand
from lab.capacity.services import mean_s
from lab.capacity.sizes import parse_size
from lab.capacity.survey import survey
from lab.checkout import CHECKOUT
from lab.cli.options import Json
from lab.cli.output import console, print_json, progress_for, table
from lab.errors import InputError
from lab.measure.findings import Ran
from lab.runs.folder import folder_of_now, machine_card, make
from lab.topologies import TOPOLOGIES
from models.stub.behaviour import parse_latency

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lab.capacity.costs import Costs
    from lab.measure.findings import ResultTable

_ROUNDS = 4


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(capacity)


def _assumed(name: str) -> Any:
    known = ASSUMPTIONS[name]
    return typer.Option(
        f"--{name}", help=f"{known.meaning}, {known.unit}; assumed: {known.default:.4g} ({known.source})."
    )


def capacity(
    rps: Annotated[float, typer.Option(help="Requests per second of all callers together.")] = bench.RPS,
    payload: Annotated[str, typer.Option(help="Size of a request: bytes, KB or MB.")] = "30KB",
    callers: Annotated[int, typer.Option(help="Services that call.")] = bench.CALLERS,
    clusters: Annotated[int, typer.Option(help="Clusters of models.")] = bench.CLUSTERS,
    slots: Annotated[int, typer.Option(help="Requests that a model's replica serves at once.")] = bench.SLOTS,
    service: Annotated[
        str, typer.Option(help="How long a model takes, ms: constant:MS or lognormal:MEDIAN,SIGMA.")
    ] = bench.SERVICE,
    topologies: Annotated[
        str, typer.Option("--topologies", metavar="A,B", help="These alone; all that were measured, if left out.")
    ] = "",
    measured: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Folder or JSON of a bench capacity or throughput; left out, it is measured now, in a minute.",
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=3, help="Of what is measured now.")] = _ROUNDS,
    simulate: Annotated[
        bool, typer.Option(help="Simulate the models' queues as well, a million requests each.")
    ] = True,
    seed: Annotated[int, typer.Option(min=0, help="Of the simulation.")] = 0,
    validation: Annotated[
        bool, typer.Option("--validate", help="Hold the simulation against a real lab instead, in three minutes.")
    ] = False,
    utilisation: Annotated[float | None, _assumed("utilisation")] = None,
    core_hour: Annotated[float | None, _assumed("core-hour")] = None,
    gigabyte: Annotated[float | None, _assumed("gigabyte")] = None,
    cross_zone: Annotated[float | None, _assumed("cross-zone")] = None,
    hop_ms: Annotated[float | None, _assumed("hop-ms")] = None,
    answer_bytes: Annotated[float | None, _assumed("answer-bytes")] = None,
    noticed_s: Annotated[float | None, _assumed("noticed-s")] = None,
    as_json: Json = False,
) -> None:
    """Compute what no machine here can run: cores, processes, hops and money by topology, and the tail of the queues.

    Every number says whether it was measured, computed or assumed, and from what. --validate predicts the latency of a
    small lab from what it does at low load, measures it at 30, 60 and 80 % of its models' slots, and prints how far the
    prediction is off; exit status 1 if that is too far, 2 if it cannot be told.

    Example: lab capacity --rps 1000000 --payload 30KB --callers 30

    From what was measured before: lab capacity --rps 250000 --payload 4KB --from runs/bench/latest --utilisation 0.5
    """
    say = progress_for(as_json=as_json)
    if validation:
        _validate(say, rounds, as_json=as_json)
    options = locals()
    assumed = Assumptions(
        {name: options[key] for name in ASSUMPTIONS if options[key := name.replace("-", "_")] is not None}
    )
    latency = parse_latency(service)
    demand = Demand(
        rps=rps,
        payload_bytes=parse_size(payload, "--payload"),
        callers=callers,
        clusters=clusters,
        slots=slots,
        service_s=mean_s(latency),
    )
    chosen = _chosen(topologies)
    costs = _read(measured) if measured else _measured_now(say, demand.payload_bytes, rounds, chosen)
    found = survey(demand, latency, costs, assumed, topologies=chosen, seed=seed, simulated=simulate, say=say)
    if as_json:
        print_json(found.to_document())
        return
    _show(found.tables(), found.notes())


def _chosen(topologies: str) -> list[str]:
    chosen = topologies.split(",") if topologies else []
    if strange := [name for name in chosen if name not in TOPOLOGIES]:
        raise InputError(f"--topologies: {strange[0]!r} is not known; there are {', '.join(TOPOLOGIES)}")
    return chosen


def _read(path: Path) -> Costs:
    """From a bench's folder, or a file of its kind."""
    files = (
        [path / f"{name}.json" for name in (bench.BENCH.name, bench.COSTS, "throughput")] if path.is_dir() else [path]
    )
    file = next((each for each in files if each.exists()), None)
    if file is None:
        raise InputError(f"--from: {path} has no result of a bench capacity or throughput; leave it out to measure now")
    try:
        document = json.loads(file.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"--from: {file} is not JSON: {error}; name what a bench has left") from error
    return costs_of(document, str(path))


def _measured_now(say: Callable[[str], None], payload_bytes: int, rounds: int, topologies: Sequence[str]) -> Costs:
    started, began = datetime.now(UTC), time.monotonic()
    with open_environment(say) as lab:
        result = bench.measure_costs(lab, [payload_bytes], rounds, topologies)
        ran = Ran(
            started=started.isoformat(timespec="seconds"),
            took_s=round(time.monotonic() - began, 1),
            rounds=rounds,
            machine=machine_card(lab.ground()),
        )
    folder = folder_of_now(CHECKOUT / "runs" / "bench")
    make(folder)
    document = replace(result, ran=ran).to_document()
    (folder / f"{result.name}.json").write_text(json.dumps(document, indent=1))
    say(f"kept: {folder}, for --from")
    return costs_of(document, str(folder))


def _validate(say: Callable[[str], None], rounds: int, *, as_json: bool) -> None:
    """Exits with the claims' status."""
    found = validate(say, rounds)
    result = BenchResult(
        name="validation", unit="", samples={}, claims=found.claims(), notes=found.notes(), tables=[found.table()]
    )
    if as_json:
        document = result.to_document()
        print_json({key: document[key] for key in ("claims", "tables", "notes")})
    else:
        _show(result.tables, [f"{claim.text}: {claim.bound}: {claim.state}" for claim in result.claims])
        _show([], result.notes)
    raise typer.Exit(exit_status([result]))


def _show(tables: Sequence[ResultTable], notes: Sequence[str]) -> None:
    for each in tables:
        console.print(f"\n{each.title}", markup=False)
        console.print(table(each.columns, each.written(), right=each.numbers))
    for note in notes:
        console.print(f"[dim]{note}[/dim]")
