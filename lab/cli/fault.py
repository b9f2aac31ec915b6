"""``lab fault inject``, ``heal``, ``list``."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Annotated, Any

import typer

from lab.bounds import SECONDS, SEED
from lab.cli import completion
from lab.cli.options import Json, Name, read_pairs
from lab.cli.output import console, print_json, say, table
from lab.errors import InputError, LabNotRunningError
from lab.faults import FAULTS, Fault, Observation, Visible
from lab.faults.catalogue import document_of, levels_in_words
from lab.faults.reach import reach_in_words
from lab.lab import Lab

_POLL_S = 0.1
_SEEN_WITHIN_S = 3.0
_OWN_OPTIONS = ("kind", "target", "level", "seed", "for_s")
_STYLES = {"yes": "green", "no": "bold red", "unknown": "yellow"}

app = typer.Typer(
    help="Inject faults into a lab that is up, observe them, and heal them.\n\n"
    "Begin with `lab fault list`, then `lab fault inject slow ml-cluster-1 --level light --for 10`.",
    no_args_is_help=True,
)


@app.command()
def inject(
    kind: Annotated[
        str,
        typer.Argument(help="Kind of fault; `lab fault list` shows them.", autocompletion=completion.faults),
    ],
    target: Annotated[
        str,
        typer.Argument(help="Target: a unit, a cluster, …; see `lab fault list`.", autocompletion=completion.targets),
    ] = "",
    level: Annotated[str | None, typer.Option(help="light, medium or severe; the kind's own by default.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Setting that overrides the level's; repeatable."),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            min=SEED.low,
            max=SEED.high,
            help="Seed of its random choices: the same seed hits the same units and requests.",
        ),
    ] = 1,
    for_s: Annotated[
        float | None,
        typer.Option(
            "--for",
            min=SECONDS.low,
            max=SECONDS.high,
            help="Wait for this many seconds, then heal; Ctrl-C heals at once.",
        ),
    ] = None,
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Inject a fault. It stays until `lab fault heal` or `lab down`, unless --for is given.

    Example: lab fault inject slow ml-cluster-1 --set ms=50 --set share=0.5 --seed 7

    For a while: lab fault inject control-plane-loss --for 5
    """
    lab = Lab(name)
    fault = lab.faults.inject(kind, target, level=level, seed=seed, for_s=for_s, **_settings(set_))
    seen = _look(fault) if for_s is None else _wait_and_heal(fault)
    if as_json:
        print_json({**fault.to_document(), "observed": seen.to_document(), "healed": not fault.active})
    else:
        _show(fault, seen, healed=not fault.active)


@app.command()
def heal(
    fault: Annotated[
        str,
        typer.Argument(metavar="[ID|all]", help="Id of a fault; all by default.", autocompletion=completion.injected),
    ] = "all",
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Heal one fault or all; returns once the units are as before. Does nothing if no fault is active.

    Example: lab fault heal slow-1
    """
    lab = Lab(name)
    lab.faults.active()  # raises if no lab is up
    healed = lab.faults.heal(fault)
    if as_json:
        print_json({"healed": healed})
    else:
        console.print(f"healed {', '.join(healed)}" if healed else "nothing was injected")


@app.command("list")
def list_(
    observe: Annotated[
        bool, typer.Option("--observe", help="Probe whether each active fault has a visible effect.")
    ] = False,
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """List the active faults, and the kinds of faults.

    Example: lab fault list --observe
    """
    injected: list[Fault] | None = None
    lab = Lab(name)
    with suppress(LabNotRunningError):
        injected = lab.faults.active()
    seen = {fault.id: fault.observe() for fault in injected or [] if observe}
    reached = {fault.id: fault.callers() for fault in injected or []}
    if as_json:
        print_json(
            {
                "kinds": [document_of(kind) for kind in FAULTS.values()],
                "injected": None
                if injected is None
                else [_with_observation(fault, seen, reached) for fault in injected],
            }
        )
        return
    if injected is None:
        console.print(f"lab {name} is not up\n")
    elif not injected:
        console.print("nothing is injected\n")
    else:
        for fault in injected:
            if (callers := reached[fault.id]) is not None:
                console.print(f"{fault.id} {reach_in_words(callers, len(lab.endpoints().clients))}", markup=False)
        console.print()
        rows = [_row(fault, seen.get(fault.id)) for fault in injected]
        headings = ("injected", "target", "since", "until", "seen")
        console.print(table(headings, rows, folds=("injected", "target", "seen")))
        console.print()
    for kind in FAULTS.values():
        console.print(f"[bold]{kind.name}[/bold]  {kind.summary}")
        about = {
            "target": kind.targets,
            "levels": levels_in_words(kind),
            "--set": ", ".join(each.name for each in kind.settings),
            "runtime": kind.runtimes[0] if len(kind.runtimes) == 1 else "",
        }
        rows = [(f"    {name}", text) for name, text in about.items() if text]
        console.print(table(("", ""), rows, folds=("",)))


def _look(fault: Fault) -> Observation:
    """Observes a fault until its effect is known, for 3 s at most: a flood's driver takes a moment to start."""
    give_up = time.monotonic() + _SEEN_WITHIN_S
    while (seen := fault.observe()).visible is Visible.UNKNOWN and time.monotonic() < give_up:
        time.sleep(_POLL_S)
    return seen


def _wait_and_heal(fault: Fault) -> Observation:
    try:
        seen = _look(fault)
        say(f"{fault.id}: {seen.because}; Ctrl-C heals at once")
        while fault.active:
            time.sleep(_POLL_S)
    finally:
        fault.heal()
    return seen


def _settings(pairs: list[str] | None) -> dict[str, str]:
    found = dict(read_pairs("--set", pairs, form="name=value", example="ms=50"))
    if own := [name for name in found if name in _OWN_OPTIONS]:
        raise InputError(f"--set: {own[0]} is not a setting; give it by its own option or argument")
    return found


def _with_observation(
    fault: Fault, seen: dict[str, Observation], reached: dict[str, tuple[str, ...] | None]
) -> dict[str, Any]:
    observed = {"observed": seen[fault.id].to_document()} if fault.id in seen else {}
    return {**fault.to_document(), "callers": reached[fault.id], **observed}


def _row(fault: Fault, seen: Observation | None) -> tuple[str, ...]:
    record = fault.record
    until = _clock(record.until_ns) if record.until_ns else "it is healed"
    return (
        fault.id,
        ", ".join(record.units) or record.target,
        _clock(record.injected_ns),
        until,
        f"{seen.visible}: {seen.because}" if seen else "",
    )


def _clock(unix_ns: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(unix_ns / 1e9))


def _show(fault: Fault, seen: Observation, *, healed: bool) -> None:
    record = fault.record
    where = ", ".join(record.units) or record.target
    style = _STYLES[seen.visible]
    console.print(f"[bold]{fault.id}[/bold] at {where}")
    console.print(f"seen: [{style}]{seen.visible}[/]  ", end="")
    console.print(seen.because, markup=False)
    if healed:
        console.print("healed")
    elif record.until_ns:
        console.print(f"heals by itself at {_clock(record.until_ns)}, or now: lab fault heal {fault.id}")
    else:
        console.print(f"to heal it: lab fault heal {fault.id}")
