"""Shows a play in a terminal, as it happens or as it was recorded."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel

from lab.cli.output import console, progress_console, say
from lab.plain_text import printable
from lab.plugins.play.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.status import Status

    from lab.plugins.play.recording import Event

_WIDTH = 100
_LONGEST_S = 4.0  # between two events of a replay


class Terminal:
    """Prints each event: a panel for an act, what is done below it, then its figure."""

    def __init__(self) -> None:
        self._acts: dict[str, dict[str, Any]] = {}
        self._status: Status | None = None

    def take(self, event: Event) -> None:
        """Shows one event."""
        match event["event"]:
            case "begins":
                self._acts = {each["name"]: each for each in event["acts"]}
                if progress_console.is_terminal:
                    progress_console.print("[dim]Space or Enter pauses before the next act; Ctrl-C ends the play[/dim]")
            case "act":
                act = self._acts[event["act"]]
                heading = f"[bold]{escape(_line(act['number']))}. {escape(_line(act['title']))}[/bold]"
                console.print()
                panel = Panel(escape(_line(act["sentence"])), title=heading, title_align="left")
                console.print(panel, width=_WIDTH, soft_wrap=False)
            case "doing" | "live":
                self._doing(_line(event["text"]))
            case "found":
                self._found(event)
            case "paused":
                self._doing("paused: Space or Enter goes on")
            case _:
                self.close()

    def close(self) -> None:
        """Ends what moves on the screen."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _doing(self, text: str) -> None:
        if not progress_console.is_terminal:
            say(escape(text))
        elif self._status is not None:
            self._status.update(escape(text))
        else:
            self._status = progress_console.status(escape(text))
            self._status.start()

    def _found(self, event: Event) -> None:
        self.close()
        sign = "[yellow]in doubt:[/yellow]" if event.get("doubt") else "[green]✓[/green]"
        sign = sign if event["shown"] else "[bold red]not shown this time:[/bold red]"
        console.print(Padding(f"{sign} [bold]{escape(_line(event['figure']))}[/bold]", (0, 2)), width=_WIDTH)
        lines = [event.get("doubt", ""), event["basis"]]
        for line in filter(None, lines):
            console.print(Padding(f"[dim]{escape(_line(line))}[/dim]", (0, 2)), width=_WIDTH)


def _line(text: object) -> str:
    return printable(str(text), 1_000)


def replay(events: Sequence[Event]) -> None:
    """Shows a recorded play: at its pace, long waits cut short, where somebody watches; else at once."""
    terminal = Terminal()
    at_s = 0.0
    watched = console.is_terminal
    with Keys(lambda paused: terminal.take({"event": "paused"}) if paused else None) as keys, suppress(BrokenPipeError):
        for event in events:
            keys.wait(min(_LONGEST_S, max(0.0, event["at_s"] - at_s)) if watched else 0)
            at_s = event["at_s"]
            terminal.take(event)
    terminal.close()


def document_of(events: Sequence[Event]) -> dict[str, Any]:
    """The acts with their figures, as ``--json`` prints them."""
    acts: dict[str, dict[str, Any]] = {}
    for event in events:
        if event["event"] == "begins":
            acts = {each["name"]: {**each, "figure": None, "shown": None} for each in event["acts"]}
        elif event["event"] == "found":
            acts[event["act"]] |= {key: event[key] for key in event if key not in ("at_s", "event", "act")}
    how = next((event["how"] for event in events if event["event"] == "ended"), "stopped")
    return json.loads(json.dumps({"acts": list(acts.values()), "how": how}))  # type: ignore[no-any-return]
