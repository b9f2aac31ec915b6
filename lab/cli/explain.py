"""``lab explain``."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lab.cli.options import Json, Name, from_home
from lab.cli.output import console, print_json, table
from lab.lab import Lab

_LEASE = {
    "yes": "the resolver was asked for it: its caller had no lease",
    "no": "its caller had it: the resolver was not asked",
    "unknown": "`lab up --log-requests` lets the resolver say whether it was asked",
}


def explain(
    request_id: Annotated[str, typer.Argument(help="Request id, e.g. from a run's history or a violation.")],
    run: Annotated[
        Path | None,
        typer.Option(
            help="Folder of its run; all runs of the lab are searched, newest first, if left out.", callback=from_home
        ),
    ] = None,
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Explain one request of a run: which rule decided, by which lease, who answered, and the proof.

    The lab need not be up. `lab up --log-requests` lets units log requests, which adds what each did and when.

    Example: lab explain 1f0c2a9be1d3-00000001
    """
    story = Lab(name).explain(request_id, run)
    if as_json:
        print_json(story)
        return
    for line in _lines(story):
        console.print(line, markup=False)
    if story["hops"]:
        rows = [(each["unit"], f"{each['at_ms']:.2f}", f"{each['ms']:.2f}", each["status"]) for each in story["hops"]]
        console.print(table(("unit", "at ms", "ms", "status"), rows, right=("at ms", "ms")))


def _lines(story: Mapping[str, Any]) -> Iterator[str]:
    request, decision, answer = story["request"], story["decision"], story["answer"]
    context = ", ".join(f"{name} {value}" for name, value in story["context"].items())
    what = f"{request['use_case']} through {request['topology']}, for user {request['user_id']}"
    yield f"{request['caller']} asked for {what}"
    yield f"  with {context}" if context else "  without a context"
    yield from _decision(decision)
    yield f"  the same by: {shlex.join(['lab', *story['command']])}"
    if answer["status"] == "OK":
        served = f"{answer['model']}@{answer['version']} on {answer['cluster']}, replica {answer['replica']}"
        yield f"answer  {served}; source {answer['source']}, attempts {answer['attempts']}"
        if answer["shadow"]:
            yield f"  copied to the shadow {answer['shadow']}"
    else:
        yield f"answer  {answer['status']}: {answer['message']}; attempts {answer['attempts']}"
    if proof := story["proof"]:
        version = f"{answer['model']}@{answer['version']}"
        item, score, expected = proof["item"], proof["score"], proof["expected"]
        yield (
            f"proof   item {item} scores {score} for this user, which only {version} computes"
            if proof["proved"]
            else f"proof   none: item {item} came with {score}, and {version} computes {expected}"
        )
    times = ", ".join(f"{name} {value:.2f} ms" for name, value in story["times_ms"].items() if value is not None)
    yield f"times   {times}"


def _decision(decision: Mapping[str, Any]) -> Iterator[str]:
    if decision["refused"]:
        yield f"decision  none: {decision['refused']}"
        return
    key, revision = decision["routing_key"], decision["revision"]
    yield f"decision  rule {decision['rule']} → routing key {key}, of revision {revision}"
    for each in decision["rules"]:
        yield f"  {'✓' if each['matched'] else '✗'} {each['rule']}: {each['reason']}"
    if how := _LEASE.get(decision["asked"], ""):
        reads = ", ".join(f"{name} {value}" for name, value in decision["reads"].items() if value)
        yield f"  lease for {reads or 'all requests of this use case'}: {how}"
