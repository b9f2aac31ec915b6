"""``lab console``."""

from __future__ import annotations

import webbrowser
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from lab.bounds import PORT
from lab.cli.coroutines import run_interruptibly
from lab.cli.options import Json, Name, from_home
from lab.cli.output import console as terminal
from lab.cli.output import print_json
from lab.errors import InputError, RunError
from lab.lab import Lab
from lab.runtime.user_folder import user_folder

if TYPE_CHECKING:
    from lab.plugins.console import Console


def console(
    run_dir: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of a saved run, or of simultaneous runs, to show; needs no lab.", callback=from_home
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=PORT.high, help="Port on 127.0.0.1; a free one if left out.")] = 0,
    control: Annotated[
        bool, typer.Option("--control", help="Let the page start load, break units, publish and roll out.")
    ] = False,
    export: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the page of a saved run as one file, and end.")
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Open no browser.")] = False,
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Show the lab live on a page in the browser: topologies, traffic, latencies and verdicts. Ctrl-C ends it.

    The page is for this machine, and asks for the token that this command prints. It needs no network.
    Without --control it changes nothing.

    Example: lab console --control

    A saved run: lab console runs/default/latest --export run.html
    """
    from lab.plugins.console import Actions, Console, SavedRuns, Watcher, page_with  # noqa: PLC0415 (takes half a second)

    if run_dir is not None:
        if control:
            raise InputError("--control: a saved run cannot be changed; leave it out, or name no folder")
        saved = SavedRuns(run_dir.resolve())
        if export is None:
            _serve(Console(saved.board, port, story=saved.story), str(run_dir), no_browser=no_browser, as_json=as_json)
            return
        try:
            export.write_text(page_with(saved.board.everything()), encoding="utf-8")
        except OSError as error:
            raise RunError(f"{export}: cannot be written: {error.strerror}; name another with --export") from error
        if as_json:
            print_json({"file": str(export)})
        terminal.print(str(export), markup=False, soft_wrap=True)
        return
    if export is not None:
        raise InputError("--export: is for a saved run; name its folder, e.g. runs/default/latest")
    lab = Lab(name)
    watcher = Watcher(lab)
    actions = Actions(watcher.board, lab) if control else None
    watcher.start()
    try:
        server = Console(watcher.board, port, actions, watcher.story)
        _serve(server, f"lab {name}", no_browser=no_browser, as_json=as_json)
    finally:
        watcher.stop()


def _serve(server: Console, what: str, *, no_browser: bool, as_json: bool) -> None:
    def ready() -> None:
        server.write_door(door)
        if as_json:
            print_json({"address": server.address, "token": server.token, "file": str(door)})
        terminal.print(f"Console of {what}: {server.address} (token: {server.token})", markup=False, soft_wrap=True)
        if not (no_browser or as_json):
            webbrowser.open(door.as_uri())

    with TemporaryDirectory(dir=user_folder(), prefix="console-") as folder, suppress(KeyboardInterrupt):
        door = Path(folder) / "console.html"
        run_interruptibly(server.serve(ready))
