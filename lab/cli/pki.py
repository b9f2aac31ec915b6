"""``lab pki``: the certificates of a lab that uses mutual TLS."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from lab.bounds import SECONDS
from lab.cli.options import Json, Name
from lab.cli.output import console, print_json, table
from lab.lab import Lab

if TYPE_CHECKING:
    from lab.identity.folder import CertificateInfo

app = typer.Typer(
    help="Show and rotate the certificates by which units authenticate.\n\n"
    "Begin with `lab up --security mtls`, then `lab pki show`.",
    no_args_is_help=True,
)


Unit = Annotated[str, typer.Argument(help="Unit; all by default. `operator` is the lab command itself.")]


@app.command()
def show(unit: Unit = "", name: Name = "default", as_json: Json = False) -> None:
    """Show the identity in each unit's certificate, and until when it is valid.

    Example: lab pki show gateway-1
    """
    _print(Lab(name).certificates.show(unit), as_json=as_json)


@app.command()
def rotate(
    unit: Unit = "",
    every: Annotated[
        float, typer.Option(min=0.0, max=SECONDS.high, help="Seconds between repetitions, until Ctrl-C; 0: once.")
    ] = 0.0,
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Issue new certificates to running units; connections follow within seconds, and no request fails.

    A lab that stays up for longer than half a certificate's lifetime needs this; `lab up` renews certificates, too.

    Example: lab pki rotate --every 3600
    """
    while True:
        _print(Lab(name).certificates.rotate(unit), as_json=as_json)
        if not every:
            return
        time.sleep(every)


@app.command()
def owner(
    owner: Annotated[str, typer.Argument(help="Name, as entries of the route table have it.")],
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Issue a certificate to the owner of parts of the route table, for `lab routes publish --as`.

    Example: lab pki owner recommendations
    """
    _print(Lab(name).certificates.issue_to_owner(owner), as_json=as_json)


def _print(certificates: Mapping[str, CertificateInfo], *, as_json: bool) -> None:
    if as_json:
        print_json({"certificates": [{"unit": unit, **asdict(info)} for unit, info in certificates.items()]})
        return
    rows = [
        (unit, info.uri, info.serial[:12], datetime.fromtimestamp(info.not_after, UTC).strftime("%Y-%m-%d %H:%M:%S"))
        for unit, info in certificates.items()
    ]
    console.print(
        table(("unit", "identity", "serial", "valid until (UTC)"), rows, folds=("identity",), optional=("serial",))
    )
