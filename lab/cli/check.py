"""``lab check``, and the options of what a run is judged by."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from lab.checkers import CHECKERS, Claim
from lab.checkers import DEFAULT_CLAIMS as _DEFAULT_CLAIMS
from lab.cli.options import Json, availability_of, from_home
from lab.cli.output import say
from lab.cli.verdicts import finish
from lab.errors import InputError
from lab.registry import add_plugins
from lab.runs import Objectives, ParallelResult, judge, runs_in
from lab.runs.folder import RunFolder
from lab.runs.seal import verify

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
        Path,
        typer.Argument(help="Folder of a run, or of simultaneous runs, e.g. runs/default/latest.", callback=from_home),
    ],
    checker: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Python file that adds a checker, as --plugin does.")
    ] = None,
    claims: Claims = DEFAULT_CLAIMS,
    slo: Slo = None,
    key: Annotated[
        str,
        typer.Option(metavar="FINGERPRINT", help="Key that must have signed the run, as lab load printed it."),
    ] = "",
    expect: Annotated[str, typer.Option(metavar="ID", help="Id that the run must have: the name of its folder.")] = "",
    signers: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keys of which one must have signed the run: ssh-keygen's allowed_signers."),
    ] = None,
    unsealed: Annotated[bool, typer.Option("--unsealed", help="Accept a run that nobody has signed.")] = False,
    as_json: Json = False,
) -> None:
    """Judge a run from its folder alone; needs no lab.

    Exit status 0: the claims asked for are valid, 1: one is invalid, 2: one is unknown, or nobody whom you know vouches
    for the run, 3: the folder cannot be judged, or is not what --key, --expect and --signers say.

    The keys of your own labs are known. For somebody else's run, ask that person for the fingerprint.

    Example: lab check runs/default/latest

    Only the latencies: lab check runs/default/latest --claims timing
    """
    objectives = objectives_of(claims, slo)
    folder = run_dir.resolve()
    runs = runs_in(folder)
    for file in checker or ():
        add_checker(file)
    key = _fingerprint(key)
    together = None if runs == [folder] else verify(RunFolder(folder), key=key, expect=expect, signers=signers)
    judged = tuple(
        judge(each, objectives=objectives, key=key, expect="" if together else expect, signers=signers) for each in runs
    )
    seals = [*([together] if together else []), *(each.seal for each in judged)]
    for seal in () if as_json else seals:
        say(seal.title)
    doubts = [seal.doubt for seal in seals if seal.doubt and not (unsealed and not seal.key)]
    finish(ParallelResult(folder, judged) if together else judged[0], as_json=as_json, doubts=doubts)


def _fingerprint(text: str) -> str:
    if text and not re.fullmatch(r"[0-9a-f]{64}", text.strip().lower()):
        raise InputError(f"--key: {text!r} is not a fingerprint; write the 64 hexadecimal digits that lab load printed")
    return text.strip().lower()


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
