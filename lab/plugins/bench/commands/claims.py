"""Shows claims with their figures, and whether they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.cli.output import console
from lab.measure.findings import Claim, State

if TYPE_CHECKING:
    from lab.measure.compare import Interval

_STYLES = {State.HOLDS: "green", State.FAILS: "bold red", State.UNDECIDED: "bold yellow"}


def show_claim(claim: Claim) -> None:
    """Prints a claim with its bounds and state, and the reasons why it is in doubt."""
    state = f"[{_STYLES[claim.state]}]{claim.state_in_words}[/]"
    console.print(f"{claim.text}: {in_bold(claim.figure)}, {claim.bound}: {state}")
    for doubt in claim.doubts:
        console.print(f"  [yellow]{doubt}[/yellow]")


def in_bold(figure: Interval) -> str:
    """A figure with its interval and confidence."""
    confidence = f"{100 * figure.confidence:.3g} %"
    return rf"[bold]{figure.estimate:.3f}[/bold] \[{figure.low:.3f}, {figure.high:.3f}] at {confidence}"
