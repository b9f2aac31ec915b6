"""``lab demo``."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel

from lab.cli.options import Json
from lab.cli.output import console, print_json, progress_console, table
from lab.demo import demonstrate
from lab.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_WIDTH = 100


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(demo)


def demo(
    runtime: Annotated[str, typer.Option(help="process, compose, or auto.")] = "process",
    pause: Annotated[float, typer.Option(min=0, max=60, help="Seconds to wait after each act, for reading.")] = 4.0,
    name: Annotated[
        str, typer.Option("--name", help="Name of the lab that it brings up, and takes down at the end.")
    ] = "demo",
    as_json: Json = False,
) -> None:
    """Demonstrate the lab in two minutes, without input, on a lab of its own; writes a report and its charts.

    Exit status 1 if an act did not show what it claims.

    Example: lab demo
    """
    lab = Lab(name)
    display = _Quiet() if as_json else _Terminal(pause_s=pause)
    try:
        result = demonstrate(lab, display, runtime=runtime)
    finally:
        with display.doing("taking the lab down"):
            lab.down()
    if as_json:
        print_json(
            {
                "acts": result.acts,
                "runs": [str(each) for each in result.runs],
                "report": str(result.report),
                "pictures": [str(each) for each in result.pictures],
            }
        )
    else:
        console.print("\n[bold]The report, from the records of all requests[/bold]")
        console.print(f"  {result.report}", markup=False)
        console.print(f"  {result.report.with_suffix('')}: {len(result.pictures)} charts, as PNG", markup=False)
    if not all(result.acts.values()):
        raise typer.Exit(1)


class _Quiet:
    def act(self, title: str, question: str) -> None:
        pass

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        del what
        yield

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        pass

    def lesson(self, text: str, *, shown: bool) -> None:
        pass


@dataclass(slots=True)
class _Terminal:
    pause_s: float
    acts: int = 0

    def act(self, title: str, question: str) -> None:
        self.acts += 1
        console.print()
        console.print(
            Panel(question, title=f"[bold]{self.acts}. {title}[/bold]", title_align="left"),
            width=_WIDTH,
            soft_wrap=False,
        )

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        if not progress_console.is_terminal:
            progress_console.print(f"[dim]·[/dim] {what}")
            yield
            return
        with progress_console.status(what):
            yield

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        console.print(Padding(table(headings, rows), (0, 2)), width=_WIDTH, soft_wrap=False)

    def lesson(self, text: str, *, shown: bool) -> None:
        sign = "[green]✓[/green]" if shown else "[bold red]not shown this time:[/bold red]"
        console.print(f"\n  {sign} {escape(text)}")
        if progress_console.is_terminal:
            time.sleep(self.pause_s)
