"""Guesses: a form that a person fills in, which unlocks the measurement of the next cell."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from typing import Any

from IPython import get_ipython
from IPython.display import display

from lab.errors import InputError

SKIP = "LAB_GUESSES"
"""Environment variable: ``skip`` measures without guesses, for notebooks that are published."""

AT_ONCE_S = 1.0
"""Cells that run so soon after the form is shown run without a person between them, seconds."""


class NoGuessYetError(InputError):
    """A measurement whose guess is missing."""


class Guess:
    """What somebody expects: a number for each name, or with ``choices`` those that are expected to be hit.

    Args:
        question: shown above the form.
        names: what to guess for.
        unit: of the numbers.
        choices: what to choose from, instead of numbers.
    """

    def __init__(self, question: str, names: Sequence[str], *, unit: str = "", choices: Sequence[str] = ()) -> None:
        self.question, self.names, self.unit, self.choices = question, tuple(names), unit, tuple(choices)
        self.given: dict[str, Any] = {}
        self._shown_at = float("-inf")

    def give(self, guess: Mapping[str, Any]) -> None:
        """Takes a guess; the form's button does so too.

        Raises:
            InputError: a name is missing or unknown, or a guess is not a number or not among the choices.
        """
        if set(guess) != set(self.names):
            raise InputError(f"guess for each of {', '.join(self.names)}")
        self.given = {name: self._read(name, value) for name, value in guess.items()}

    def unlock(self) -> dict[str, Any]:
        """Returns the guess; nothing where guesses are skipped, or where nobody could have guessed, which it says.

        Raises:
            NoGuessYetError: there is none yet.
        """
        if self.given or os.environ.get(SKIP) == "skip":
            return self.given
        if why := self._nobody_guesses():
            print(f"Measured without a guess: {why}.")  # noqa: T201 (the cell's output)
            return {}
        raise NoGuessYetError(
            "Guess first: fill in the form above, press its button, and run this cell again. "
            f"`{SKIP}=skip` measures without guesses."
        )

    def _nobody_guesses(self) -> str:
        """Why no person can have answered; empty if one can."""
        shell = get_ipython()
        if not getattr(getattr(shell, "kernel", None), "_allow_stdin", True):
            return "the notebook runs by itself"
        if time.monotonic() - self._shown_at < AT_ONCE_S:
            return "its cells ran at once; guess above and run this cell again to compare"
        return ""

    def _read(self, name: str, value: Any) -> Any:
        if self.choices:
            if unknown := set(value) - set(self.choices):
                raise InputError(f"{name}: {', '.join(sorted(unknown))} is not among {', '.join(self.choices)}")
            return set(value)
        try:
            return float(str(value).replace(",", ".").replace("−", "-"))
        except ValueError:
            raise InputError(f"{name}: write a number{f' of {self.unit}' if self.unit else ''}") from None

    def __repr__(self) -> str:
        return f"[guess: {self.question}]"

    def _ipython_display_(self) -> None:
        self._shown_at = time.monotonic()
        display(_form(self), metadata={"guess": self.question})  # type: ignore[no-untyped-call]


def _form(guess: Guess) -> Any:
    """The form as a widget: a field for each name, or a box for each choice, and the button."""
    from ipywidgets import HTML, Button, VBox  # noqa: PLC0415 (without a form, a guess needs no widgets)

    rows, read = _choices(guess) if guess.choices else _numbers(guess)
    button = Button(description="This is my guess", button_style="primary")
    said = HTML('<span role="status">The next cell measures once you have guessed.</span>')

    def take(_: Any) -> None:
        try:
            guess.give(read())
        except InputError as error:
            said.value = f'<span role="status">✗ {escape(str(error))}</span>'
        else:
            said.value = '<span role="status">✓ Guessed. Now run the next cell.</span>'

    button.on_click(take)
    question = HTML(f'<p class="lab-question"><b>{escape(guess.question)}</b></p>')
    return VBox([question, *rows, button, said]).add_class("lab-guess")


def _numbers(guess: Guess) -> tuple[list[Any], Any]:
    from ipywidgets import Text  # noqa: PLC0415 (as above)

    label = f", {guess.unit}" if guess.unit else ""
    fields = {
        name: Text(description=f"{name}{label}", style={"description_width": "16em"}, placeholder="your guess")
        for name in guess.names
    }
    return list(fields.values()), lambda: {name: field.value for name, field in fields.items()}


def _choices(guess: Guess) -> tuple[list[Any], Any]:
    from ipywidgets import Checkbox, HBox, Label, Layout  # noqa: PLC0415 (as above)

    box = partial(Checkbox, indent=False, layout=Layout(width="auto", margin="0 1.5em 0 0"))
    boxes = {
        name: {each: box(description=each, tooltip=f"{name}: {each}") for each in guess.choices} for name in guess.names
    }
    wrap = Layout(flex_flow="row wrap")
    rows = [HBox([Label(f"{name}:"), *own.values()], layout=wrap) for name, own in boxes.items()]
    return rows, lambda: {name: {each for each, it in own.items() if it.value} for name, own in boxes.items()}
