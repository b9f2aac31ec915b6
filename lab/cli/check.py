"""``lab check``, and the options of what a run is judged by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lab.checkers import CHECKERS, Claim
from lab.checkers import DEFAULT_CLAIMS as _DEFAULT_CLAIMS
from lab.cli.options import Json, availability_of
from lab.cli.verdicts import finish
from lab.errors import InputError
from lab.registry import add_plugins
from lab.runs import Objectives, ParallelResult, judge, runs_in

Claims = Annotated[
    str,
    typer.Option(metavar="C,…", help=f"Claims that decide the exit status: some of {', '.join(Claim)}."),
]
Slo = Annotated[
    str | None,
    typer.Option(
        metavar="availability>=P%", help="Share of requests that must be answered, of the run and of each use case."
    ),
]
DEFAULT_CLAIMS = ",".join(_DEFAULT_CLAIMS)


def check(
    run_dir: Annotated[
        Path, typer.Argument(help="Folder of a run, or of simultaneous runs, e.g. runs/default/latest.")
    ],
    checker: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Python file that adds a checker, as --plugin does.")
    ] = None,
    claims: Claims = DEFAULT_CLAIMS,
    slo: Slo = None,
    as_json: Json = False,
) -> None:
    """Judge a run from its folder alone; needs no lab.

    Exit status 0: the claims asked for are valid, 1: one is invalid, 2: one is unknown, 3: the folder cannot be judged.

    Example: lab check runs/default/latest

    Only the latencies: lab check runs/default/latest --claims timing
    """
    objectives = objectives_of(claims, slo)
    folder = run_dir.resolve()
    runs = runs_in(folder)
    for file in checker or ():
        add_checker(file)
    judged = tuple(judge(each, objectives=objectives) for each in runs)
    finish(judged[0] if runs == [folder] else ParallelResult(folder, judged), as_json=as_json)


def objectives_of(claims: str, slo: str | None) -> Objectives:
    """Parses ``--claims`` and ``--slo``.

    Raises:
        InputError: a claim is unknown, or the objective is not of the form ``availability>=99.9%``.
    """
    names = [name.strip() for name in claims.split(",") if name.strip()]
    if not names or not set(names) <= set(Claim):
        raise InputError(f"--claims: {claims!r} is not a list of claims; write some of {','.join(Claim)}")
    return Objectives(claims=tuple(map(Claim, names)), availability_slo=None if slo is None else availability_of(slo))


def add_checker(file: Path) -> None:
    """Adds the checker that a file defines to those that judge runs.

    Raises:
        InputError: the file cannot be run, or defines none.
    """
    before = set(CHECKERS)
    add_plugins([file])
    if set(CHECKERS) == before:
        raise InputError(f"--checker: {file}: defines no new Checker; see docs/extending/checker.md")
