"""``lab play``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lab.cli.options import Json, Name
from lab.cli.output import console, print_json
from lab.errors import InputError, RunError
from lab.lab import Lab
from lab.plugins.play.act import in_order
from lab.plugins.play.picture import picture
from lab.plugins.play.recording import Recording, board_of, read
from lab.plugins.play.runner import play as play_on
from lab.plugins.play.show import Terminal, document_of, replay

_FILE = "play.jsonl"


def play(
    acts: Annotated[str, typer.Option(help="Acts to play, by name or number, comma-separated; all if left out.")] = "",
    pause: Annotated[
        float, typer.Option(min=0, max=600, help="Seconds to read each figure, where Space or Enter can pause.")
    ] = 4.0,
    clusters: Annotated[
        int,
        typer.Option(
            min=0,
            max=100_000,
            help="Start a second lab of this many clusters in the last act; 0 shows a recorded one.",
        ),
    ] = 0,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Record the play here; runs/NAME/play.jsonl if left out.")
    ] = None,
    replay_: Annotated[
        Path | None, typer.Option("--replay", metavar="FILE", help="Show a recorded play; needs no lab.")
    ] = None,
    picture_: Annotated[
        Path | None,
        typer.Option("--picture", metavar="FILE", help="With --replay: write the play as an animated SVG, and end."),
    ] = None,
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Play the talk in eight acts on the lab that is up: one sentence and one figure each, from judged records.

    Without a lab it brings one up, and takes it down at the end. Space or Enter pauses before the next act. Ctrl-C
    heals what was injected and restores the route table. Exit status 1 if an act did not show what it says.

    Example: lab play

    Two acts, then again without a lab: lab play --acts gateway,sidecar && lab play --replay runs/default/play.jsonl
    """
    chosen = in_order(acts)
    if picture_ is not None and replay_ is None:
        raise InputError("--picture: draws a recorded play; name it with --replay")
    if replay_ is not None:
        events = read(replay_)
        if picture_ is not None:
            _write(picture_, picture(events))
        elif not as_json:
            replay(events)
        if as_json:
            print_json(document_of(events))
        return
    lab = Lab(name)
    file = save or lab.runs / _FILE
    terminal = Terminal()
    recording = Recording(file, board_of(lab.folder), terminal.take)
    try:
        found = play_on(lab, chosen, recording, pause_s=pause, clusters=clusters)
    finally:
        terminal.close()
        recording.close()
    if as_json:
        print_json({**document_of(recording.events), "recording": str(file)})
    else:
        console.print(f"\nAgain, without a lab: lab play --replay {file}", markup=False, soft_wrap=True)
    if not all(each.shown for each in found.values()):
        raise typer.Exit(1)


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{file}: cannot be written: {error.strerror}; name another with --picture") from error
