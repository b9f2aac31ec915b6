"""``lab up``, ``down``, ``status``, ``endpoints``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from lab.cli.options import DEFAULT_TOPOLOGY, Json, Name, with_options
from lab.cli.output import as_typed, console, print_json, say, table
from lab.lab import DEFAULT_SPEC, Lab
from lab.ops.inspect import LabEndpoints, LabStatus, roles_beside_callers
from lab.ops.routes import for_callers
from lab.pickers import PICKERS
from lab.roles import ROLES
from lab.runtime import RUNTIMES
from lab.runtime import options as runtime_options
from lab.transport.security import PLAINTEXT

if TYPE_CHECKING:
    from lab.client.admin_values import ControlPlaneStatus

_STYLES = {"running": "green", "paused": "yellow", "stalled": "bold red", "exited": "bold red", "absent": "yellow"}
_AUTO = [each.name for each in sorted(RUNTIMES.values(), key=lambda each: -each.priority) if each.priority >= 0]
_OPTIONAL = [name for name, each in ROLES.items() if each.settings is not None]
_NO_IDENTITY = "plaintext: no identity is proved, so every program on this machine can act as any caller"


def up(
    runtime: Annotated[
        str,
        typer.Option(help=f"{', '.join(RUNTIMES)}, or auto: the first of {', '.join(_AUTO)} that works here."),
    ] = "auto",
    spec: Annotated[
        Path,
        typer.Option(
            help="Spec of the lab: a file, or a size: mini, default, full (30 callers).",
            show_default="default",  # not a path, whose length is any
        ),
    ] = DEFAULT_SPEC,
    routes: Annotated[Path | None, typer.Option(help="First route table; the spec's by default.")] = None,
    topology: Annotated[
        str, typer.Option(help="Topologies, comma-separated; replaces the spec's; +NAME adds one.")
    ] = "",
    picker: Annotated[
        str, typer.Option(metavar="NAME", help=f"Picks the replica: {', '.join(PICKERS)}. [default: the spec's]")
    ] = "",
    role: Annotated[
        str,
        typer.Option(metavar="NAME", help=f"Roles that no topology needs, by commas: {', '.join(_OPTIONAL)}."),
    ] = "",
    security: Annotated[str | None, typer.Option(help="plaintext or mtls; the spec's by default.")] = None,
    log_requests: Annotated[
        bool, typer.Option(help="Let callers, resolvers and models log requests, too; see `lab logs`.")
    ] = False,
    traces: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, metavar="RATE", help="Trace this share of requests; see `lab trace`. [default: none]"
        ),
    ] = None,
    otlp: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            help="Send traces to this OTLP receiver, and trace all by default; https://HOST:PORT for TLS.",
        ),
    ] = "",
    otlp_ca: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Certificates of the authorities of a receiver with TLS, PEM."),
    ] = None,
    log_format: Annotated[
        str, typer.Option(metavar="FORM", help="text or json, of the units' logs; json has the same keys in all units.")
    ] = "",
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Let every unit serve metrics; `lab endpoints --json` lists where.")
    ] = False,
    name: Name = "default",
    as_json: Json = False,
    **options: str,
) -> None:
    """Bring the lab up, or the units of it that do not run; ready when one verified call per topology has passed.

    Example: lab up --topology gateway,mesh
    """
    began = time.monotonic()
    lab = Lab(name)
    calls = lab.up(
        spec=spec,
        routes=routes,
        topologies=[each for each in topology.split(",") if each],
        picker=picker,
        roles=[each for each in role.split(",") if each],
        security=security,
        log_requests=log_requests,
        traces=traces,
        otlp=otlp,
        otlp_ca=otlp_ca,
        log_format=log_format,
        metrics=metrics,
        runtime=runtime,
        options={option: value for option, value in options.items() if value},
        say=say,
    )
    state = lab.status()
    if as_json:
        print_json(
            {
                "runtime": state.runtime,
                "units": len(state.units),
                "seconds": round(time.monotonic() - began, 2),
                "verified": [asdict(each) for each in calls],
            }
        )
        return
    for each in calls:
        console.print(
            f"[green]✓[/green] {each.topology:<20}{each.use_case} → {each.model}@{each.version}, "
            f"{each.replica}, {each.latency_ms:.1f} ms"
        )
    console.print(f"\n{len(state.units)} units up in {time.monotonic() - began:.1f} s ({state.runtime} runtime)")
    _warn_of_plaintext(state)
    console.print()
    console.print(_endpoints_table(lab.endpoints()))
    if not calls:
        return
    option = "" if name == "default" else f" --name {name}"
    use_case, verified = calls[0].use_case, [each.topology for each in calls]
    topology = DEFAULT_TOPOLOGY if DEFAULT_TOPOLOGY in verified else verified[-1]
    caller, command = next(iter(lab.endpoints().callers)), as_typed("lab")
    console.print(
        "\nTry next:\n"
        f"  {command} call {use_case} --topology {topology} --caller {caller} --user u1 "
        f"--context device=tv --context country=US{option}\n"
        f"  {command} load --topology {topology} --rate 200 --duration 10{option}\n"
        f"  {command} routes explain {use_case} --caller {caller} --context device=tv{option}\n"
        f"  {command} status{option}",
        markup=False,
        soft_wrap=True,
    )


def _runtime_options() -> Iterator[Parameter]:
    """One parameter for each option of a runtime; its help names the runtimes that have it."""
    for option, having in runtime_options().values():
        info = typer.Option(option.flag, help=f"{option.help}; {' and '.join(having)} only.")
        yield Parameter(option.name, Parameter.KEYWORD_ONLY, default="", annotation=Annotated[str, info])


with_options(up, _runtime_options())


def down(name: Name = "default", as_json: Json = False) -> None:
    """Take the lab down: no process, container, network, port or state is left. Safe after a crash.

    Example: lab down
    """
    ended = Lab(name).down()
    if as_json:
        print_json({"ended": ended})
    else:
        console.print(f"{ended} units ended" if ended else f"lab {name} was not up")


def status(
    memory: Annotated[bool, typer.Option("--memory", help="Show the memory of each unit, too.")] = False,
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Show the state of every unit and the revision that each node has acknowledged.

    Exit status 1 if a unit is not running.

    Example: lab status --memory
    """
    state = Lab(name).status(memory=memory)
    known = state.control_plane
    if as_json:
        print_json(state.to_document())
    else:
        acked = {node.node: node.acked_revision for node in known.nodes} if known else {}
        console.print(
            f"lab {state.name}, {state.runtime} runtime, revision {known.revision}"
            + (f", and {known.staged} staged{for_callers(known.staged_for)}" if known.staged else "")
            if known
            else f"lab {state.name}, {state.runtime} runtime; the control plane does not answer"
        )
        _warn_of_plaintext(state)
        rows: list[tuple[object, ...]] = [
            (
                unit.name,
                unit.role,
                Text(unit.state, _STYLES[unit.state]),
                unit.address,
                unit.pid or unit.container,
                acked.get(unit.name, ""),
            )
            for unit in state.units
        ]
        identity = "container" if any(unit.container for unit in state.units) else "pid"
        headings: tuple[str, ...] = ("unit", "role", "state", "address", identity, "rev")
        if memory:
            rows = [(*row, f"{unit.memory_bytes / 1e6:.1f}") for row, unit in zip(rows, state.units, strict=True)]
            rows.append(("all", *[""] * 5, f"{sum(unit.memory_bytes for unit in state.units) / 1e6:.1f}"))
            headings = (*headings, "MB")
        console.print(table(headings, rows, right=("pid", "rev", "MB"), optional=("address", identity, "role")))
        for line in _behind(known):
            console.print(line, style="yellow", markup=False)
        for line in _remarks(state):
            console.print(line, markup=False)
    if any(unit.state != "running" for unit in state.units):
        raise typer.Exit(1)


def _remarks(state: LabStatus) -> Iterator[str]:
    """Yields a line for each thing that is wrong with a unit, the lab's disk, or its revisions."""
    if state.control_plane is not None and not state.control_plane.revision:
        yield "the control plane has no revision: nodes keep the last one; `lab routes publish FILE` makes a new one"
    for unit in state.units:
        if unit.last_words:
            yield f"{unit.name}: {unit.last_words}"
        if unit.state == "stalled":
            yield f"{unit.name}: waits for the kernel, e.g. for a disk that does not answer"
        if unit.open_files:
            full = f"{unit.name}: has {unit.open_files} files and connections open, its limit: new ones wait"
            yield f"{full}; `ulimit -n` before `lab up` raises the limit"
        if unit.over_ceiling:
            times, last = len(unit.over_ceiling), unit.over_ceiling[-1]
            yield f"{unit.name}: over its memory ceiling, times: {times}; last: {last}"
    if state.disk_is_full:
        yield f"the disk of lab {state.name} is full: logs and revisions cannot be written"


def _behind(known: ControlPlaneStatus | None) -> list[str]:
    """A line for each node that is behind."""
    return [
        f"{node.role} {node.node} is behind, at revision {node.acked_revision}: {node.error}"
        for node in ((*known.nodes, *known.away) if known else ())
        if node.behind
    ]


def endpoints(
    bootstrap: Annotated[
        str,
        typer.Option(metavar="CALLER", help="Print the xDS bootstrap of a proxyless client in its name."),
    ] = "",
    targets: Annotated[
        bool, typer.Option("--targets", help="Print what Prometheus can scrape, as `lab render prometheus` reads it.")
    ] = False,
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Show the addresses for outside clients.

    Example: lab endpoints --bootstrap homepage > xds.json
    """
    if bootstrap:
        print_json(Lab(name).xds_bootstrap(bootstrap))
        return
    where = Lab(name).endpoints()
    if targets:
        print_json([target.to_document() for target in where.metrics])
        return
    if as_json:
        print_json(where.to_document())
    else:
        console.print(_endpoints_table(where))
        if where.rest:
            console.print(table(("", "REST"), list(where.rest.items())))
        if where.identity:
            console.print(f"Connections need mTLS, e.g. with the certificate in {where.identity}/current", markup=False)


def _warn_of_plaintext(state: LabStatus) -> None:
    if state.security == PLAINTEXT:
        console.print(_NO_IDENTITY, style="yellow", soft_wrap=True)


def _endpoints_table(where: LabEndpoints) -> object:
    beside = {caller: where.beside(caller) for caller in where.callers}
    headings = [role for role in roles_beside_callers() if any(each[role] for each in beside.values())]
    rows: list[tuple[object, ...]] = [
        (caller, address, *(beside[caller][role] or "" for role in headings))
        for caller, address in where.callers.items()
    ]
    for role, addresses in where.shared.by_role.items():
        names = [role] if len(addresses) == 1 else [f"{role}-{number}" for number in range(1, len(addresses) + 1)]
        rows += [(name, address, *("" for _ in headings)) for name, address in zip(names, addresses, strict=True)]
    return table(("", "address", *headings), rows)
