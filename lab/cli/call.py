"""``lab call``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from lab.cli.options import DEFAULT_TOPOLOGY, Caller, Context, Json, Name, Topology, UseCase, User, read_context
from lab.cli.output import console, print_json
from lab.lab import Lab
from lab.load.trace import MAX_PAYLOAD_BYTES

_IN_TITLE: Sequence[str] = ("use_case", "topology")


def call(
    use_case: UseCase,
    topology: Topology = DEFAULT_TOPOLOGY,
    caller: Caller = "homepage",
    user: User = "u1",
    context: Context = None,
    payload: Annotated[
        int, typer.Option(min=0, max=MAX_PAYLOAD_BYTES, help="Size of the feature vectors, bytes.")
    ] = 400,
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Make one call as a caller, and show which replica answered.

    Example: lab call ContinueWatchingRanking --topology mesh --caller homepage --context device=tv --context country=US
    """
    outcome = Lab(name).call(
        use_case,
        topology=topology,
        caller=caller,
        context=read_context(context, user=user, caller=caller),
        payload_bytes=payload,
    )
    if as_json:
        print_json(asdict(outcome))
        return
    console.print(f"[bold]{outcome.use_case}[/bold] over {outcome.topology}")
    for field, value in asdict(outcome).items():
        if field not in _IN_TITLE:
            console.print(f"  {field:<12} {value:.2f}" if isinstance(value, float) else f"  {field:<12} {value}")
