"""The ``lab`` command: one module a noun, each a thin skin over :class:`lab.lab.Lab`.

Here belongs how things are asked for and shown. What they do lives in ``lab.lab`` and below.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from lab.cli import (
    audit,
    bench,
    call,
    compare,
    demo,
    doctor,
    fault,
    lifecycle,
    load,
    logs,
    pki,
    report,
    roll,
    routes,
    scenarios,
)
from lab.errors import LabError

# What typer makes of Ctrl-C, as shells do.
_INTERRUPTED = 130

app = typer.Typer(
    name="lab",
    help="A testbed that routes ML inference traffic through an API gateway and through an Envoy sidecar mesh.\n\n"
    "Begin with `lab up`, then `lab call ContinueWatchingRanking --topology mesh --caller homepage`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
demo.register(app)
doctor.register(app)
lifecycle.register(app)
call.register(app)
logs.register(app)
app.add_typer(routes.app, name="routes")
roll.register(app)
load.register(app)
app.add_typer(fault.app, name="fault")
report.register(app)
compare.register(app)
bench.register(app)
app.add_typer(pki.app, name="pki")
audit.register(app)
scenarios.register(app)


@app.callback()
def _root(
    name: Annotated[str | None, typer.Option(help="Which lab; the same as a command's own --name.")] = None,
) -> None:
    if name is not None:
        os.environ["LAB_NAME"] = name


def main() -> None:
    """Entry point: errors are one line and exit status 1; ``--debug`` anywhere shows where they came from."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        status = app(arguments, prog_name="lab", standalone_mode=False)
    except typer.TyperException as error:
        if debug:
            raise
        _fail(getattr(error, "format_message", error.__str__)())
    except (LabError, OSError) as error:
        if debug:
            raise
        _fail(str(error))
    if status == _INTERRUPTED:
        _fail("interrupted", _INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int = 1) -> None:
    sys.stderr.write(f"lab: {message}\n")
    sys.exit(status)
