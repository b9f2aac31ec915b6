"""Options of ``lab load`` that choose Locust, the engine that people steer, and say how it is to be set up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lab.cli.output import progress_console
from lab.errors import InputError
from lab.load.locust_plan import EXAMPLE
from lab.runs import LocustOptions

if TYPE_CHECKING:
    from lab.load.progress import Progress
    from lab.runs import LoadOptions

OPEN_LOOP, LOCUST = "open-loop", "locust"
UI_PORT = 8089

_PANEL = "With --engine locust"

Engine = Annotated[str, typer.Option("--engine", help="open-loop, or locust: the engine that people steer.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=0, help="Processes of users; 0: the driver alone.", rich_help_panel=_PANEL),
]
Locustfile = Annotated[
    Path | None,
    typer.Option("--locustfile", help="What users do; lab/load/locustfile.py if left out.", rich_help_panel=_PANEL),
]
Ui = Annotated[
    bool,
    typer.Option("--ui", help="Steer it in Locust's web UI until Ctrl-C; no offered rate.", rich_help_panel=_PANEL),
]
UiPort = Annotated[
    int | None,
    typer.Option("--ui-port", min=1, max=65_535, help=f"On 127.0.0.1, {UI_PORT} if left out.", rich_help_panel=_PANEL),
]


def locust_options(
    engine: str, *, workers: int | None, locustfile: Path | None, ui: bool, ui_port: int | None
) -> LocustOptions | None:
    """How Locust is to drive; None for the open loop.

    Raises:
        InputError: no such engine, or an option that is another's.
    """
    if engine not in (OPEN_LOOP, LOCUST):
        raise InputError(f"--engine: {engine!r} is not known; write {OPEN_LOOP} or {LOCUST}")
    if engine == OPEN_LOOP:
        given = {"--workers": workers, "--locustfile": locustfile, "--ui": ui or None, "--ui-port": ui_port}
        for option, value in given.items():
            if value is not None:
                raise InputError(f"{option}: is Locust's; add --engine {LOCUST}, or leave it out")
        return None
    if ui_port is not None and not ui:
        raise InputError("--ui-port: there is no UI without --ui; add it, or leave the port out")
    return LocustOptions(
        workers=workers or 0, locustfile=locustfile or EXAMPLE, ui_port=(ui_port or UI_PORT) if ui else None
    )


class UiIsUp:
    """Says once, at the first word of progress, where the UI is: it is up then."""

    def __init__(self, options: LoadOptions) -> None:
        self._port = options.locust.ui_port if options.locust else None

    def __call__(self, _: Progress) -> None:
        """A word of progress has come."""
        if self._port is not None:
            progress_console.print(
                f"Locust's UI: http://127.0.0.1:{self._port}  (Ctrl-C here, or /quit there, ends the run)"
            )
            self._port = None
