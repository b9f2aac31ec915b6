"""``lab capacity``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lab.bounds import ROUNDS, SEED
from lab.cli.options import Json
from lab.cli.output import console, print_json, result_table, say
from lab.errors import InputError
from lab.plugins.bench.harness.result import BenchResult, exit_status
from lab.plugins.bench.harness.validation import validate
from lab.plugins.bench.suites import capacity as bench
from lab.plugins.capacity.assumptions import ASSUMPTIONS, Assumptions
from lab.plugins.capacity.cluster import cluster_capacity, cluster_table, node_loss_table
from lab.plugins.capacity.fleet import Demand
from lab.plugins.capacity.fleet_sizing import survey
from lab.plugins.capacity.hops import measured_hop
from lab.plugins.capacity.services import mean_s, parse_size
from lab.topologies import TOPOLOGIES
from models.stub.behaviour import parse_latency

if TYPE_CHECKING:
    from lab.measure.findings import ResultTable

_ROUNDS = 4


def _assumed(name: str) -> Any:
    known = ASSUMPTIONS[name]
    return typer.Option(
        f"--{name}", help=f"{known.meaning}, {known.unit}; assumed: {known.default:.4g} ({known.source})."
    )


def capacity(
    rps: Annotated[float, typer.Option(help="Requests per second of all callers together.")] = bench.RPS,
    payload: Annotated[str, typer.Option(help="Size of a request, in bytes, KB or MB.")] = "30KB",
    callers: Annotated[int, typer.Option(help="Number of callers.")] = bench.CALLERS,
    clusters: Annotated[int, typer.Option(help="Number of model clusters.")] = bench.CLUSTERS,
    slots: Annotated[int, typer.Option(help="Requests that a model replica serves at once.")] = bench.SLOTS,
    service: Annotated[
        str, typer.Option(help="Service time of a model: constant:MS, or lognormal:MS,SIGMA by its median.")
    ] = bench.SERVICE,
    topologies: Annotated[
        str, typer.Option("--topologies", metavar="A,B", help="Topologies; all that were measured by default.")
    ] = "",
    measured: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Folder or JSON of a bench capacity or throughput; by default it is measured now, in a minute.",
        ),
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=ROUNDS.low, max=ROUNDS.high, help="Number of measurement rounds.")
    ] = _ROUNDS,
    simulate: Annotated[
        bool, typer.Option(help="Simulate the models' queues, too, with a million requests each.")
    ] = True,
    seed: Annotated[int, typer.Option(min=0, max=SEED.high, help="Seed of the simulation.")] = 0,
    validation: Annotated[
        bool, typer.Option("--validate", help="Compare the simulation with a real lab instead, in three minutes.")
    ] = False,
    utilisation: Annotated[float | None, _assumed("utilisation")] = None,
    core_hour: Annotated[float | None, _assumed("core-hour")] = None,
    gigabyte: Annotated[float | None, _assumed("gigabyte")] = None,
    cross_zone: Annotated[float | None, _assumed("cross-zone")] = None,
    hop_ms: Annotated[float | None, _assumed("hop-ms")] = None,
    answer_bytes: Annotated[float | None, _assumed("answer-bytes")] = None,
    noticed_s: Annotated[float | None, _assumed("noticed-s")] = None,
    nodes: Annotated[
        int | None,
        typer.Option(min=1, max=1_000_000, help="Also compute what a cluster of this many nodes carries."),
    ] = None,
    node_cores: Annotated[float | None, _assumed("node-cores")] = None,
    node_gigabytes: Annotated[float | None, _assumed("node-gigabytes")] = None,
    node_reserved: Annotated[float | None, _assumed("node-reserved")] = None,
    as_json: Json = False,
) -> None:
    """Compute the resources of a large fleet: cores, processes, hops and cost by topology, and the tail of the queues.

    Every number says whether it was measured, computed or assumed, and from what. --validate predicts the latency of a
    small lab from low load, measures it at 30, 60 and 80 % of its models' slots, and prints the prediction's error;
    exit status 1 if it is too large, 2 if it is unknown.

    Example: lab capacity --rps 1000000 --payload 30KB --callers 30

    What a cluster of 20 nodes carries: lab capacity --nodes 20 --node-cores 8 --payload 4KB

    From an earlier measurement: lab capacity --rps 250000 --payload 4KB --from runs/bench/latest --utilisation 0.5
    """
    if validation:
        _validate(rounds, as_json=as_json)
    options = locals()
    hop = measured_hop(measured) if measured else None
    assumed = Assumptions(
        {name: options[key] for name in ASSUMPTIONS if options[key := name.replace("-", "_")] is not None},
        {"hop-ms": hop} if hop else None,
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
    costs = (
        bench.read_costs(measured) if measured else bench.measure_costs_now(say, demand.payload_bytes, rounds, chosen)
    )
    found = survey(demand, latency, costs, assumed, topologies=chosen, seed=seed, simulated=simulate, say=say)
    named = [each.topology for each in found.fleets if each.topology in TOPOLOGIES] if nodes else []
    clusters_found = [cluster_capacity(each, nodes or 0, demand, costs, assumed) for each in named]
    if as_json:
        carried = {"cluster": [each.to_document() for each in clusters_found]} if nodes else {}
        print_json({**found.to_document(), **carried})
        return
    more = [cluster_table(clusters_found, nodes), node_loss_table(clusters_found, nodes)] if nodes else []
    _show([*found.tables(), *more], found.notes())


def _chosen(topologies: str) -> list[str]:
    chosen = topologies.split(",") if topologies else []
    if strange := [name for name in chosen if name not in TOPOLOGIES]:
        raise InputError(f"--topologies: {strange[0]!r} is not known; there are {', '.join(TOPOLOGIES)}")
    return chosen


def _validate(rounds: int, *, as_json: bool) -> None:
    """Prints the validation, and exits with the status of its claims."""
    found = validate(say, rounds)
    result = BenchResult(
        name="validation",
        unit="",
        samples={},
        claims=found.claims(),
        notes=found.notes(),
        tables=[found.table()],
        missing=found.missing,
    )
    if as_json:
        document = result.to_document()
        print_json({key: document[key] for key in ("claims", "tables", "notes")})
    else:
        _show(result.tables, [f"{claim.text}: {claim.bound}: {claim.state_in_words}" for claim in result.claims])
        _show([], result.notes)
    raise typer.Exit(exit_status([result]))


def _show(tables: Sequence[ResultTable], notes: Sequence[str]) -> None:
    for each in tables:
        console.print(f"\n{each.title}", markup=False)
        console.print(result_table(each))
    for note in notes:
        console.print(f"[dim]{note}[/dim]")
