"""Options of ``lab load`` for Locust, the interactive load engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lab.errors import InputError
from lab.load.plan import EXAMPLE
from lab.runs import LocustOptions

if TYPE_CHECKING:
    from lab.load.progress import Progress
    from lab.runs import LoadOptions

OPEN_LOOP, LOCUST = "open-loop", "locust"
UI_PORT = 8089

_PANEL = "With --engine locust"

Engine = Annotated[str, typer.Option("--engine", help="open-loop, or locust: the interactive load engine.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=0, help="Worker processes; 0: users run in the driver.", rich_help_panel=_PANEL),
]
Locustfile = Annotated[
    Path | None,
    typer.Option("--locustfile", help="Behaviour of users; lab/load/locustfile.py by default.", rich_help_panel=_PANEL),
]
Ui = Annotated[
    bool,
    typer.Option("--ui", help="Serve Locust's web UI, which sets the load until Ctrl-C.", rich_help_panel=_PANEL),
]
UiPort = Annotated[
    int | None,
    typer.Option(
        "--ui-port",
        min=1,
        max=65_535,
        help=f"Port of the UI on 127.0.0.1; {UI_PORT} by default.",
        rich_help_panel=_PANEL,
    ),
]


def locust_options(
    engine: str, *, workers: int | None, locustfile: Path | None, ui: bool, ui_port: int | None
) -> LocustOptions | None:
    """Options of Locust; None for the open loop.

    Raises:
        InputError: no such engine, or an option that the chosen one does not have.
    """
    if engine not in (OPEN_LOOP, LOCUST):
        raise InputError(f"--engine: {engine!r} is not known; write {OPEN_LOOP} or {LOCUST}")
    if engine == OPEN_LOOP:
        given = {"--workers": workers, "--locustfile": locustfile, "--ui": ui or None, "--ui-port": ui_port}
        for option, value in given.items():
            if value is not None:
                raise InputError(f"{option}: needs --engine {LOCUST}; add that, or leave it out")
        return None
    if ui_port is not None and not ui:
        raise InputError("--ui-port: there is no UI without --ui; add it, or leave the port out")
    return LocustOptions(
        workers=workers or 0, locustfile=locustfile or EXAMPLE, ui_port=(ui_port or UI_PORT) if ui else None
    )


class UiIsUp:
    """Prints the address of the UI once, at the first progress of the run: it is up then."""

    def __init__(self, options: LoadOptions) -> None:
        self._port = options.locust.ui_port if options.locust else None

    def __call__(self, _: Progress) -> None:
        """Takes progress of the run."""
        if self._port is not None:
            typer.echo(
                f"Locust's UI: http://127.0.0.1:{self._port}  (Ctrl-C here, or /quit there, ends the run)", err=True
            )
            self._port = None
