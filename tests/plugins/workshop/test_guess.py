"""A guess unlocks the measurement: by the form, or given by a program."""

from __future__ import annotations

from typing import Any

import pytest

from lab.errors import InputError
from lab.plugins.workshop import guess as module
from lab.plugins.workshop.guess import SKIP, Guess, NoGuessYetError

CALLERS = ("homepage", "search")


def form(guess: Guess, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """What a cell shows of a guess: widgets by kind."""
    shown: list[Any] = []
    monkeypatch.setattr(module, "display", lambda widget, **_: shown.append(widget))
    guess._ipython_display_()
    found: dict[str, list[Any]] = {}
    while shown:
        widget = shown.pop(0)
        found.setdefault(type(widget).__name__, []).append(widget)
        shown += getattr(widget, "children", ())
    return found


@pytest.fixture(autouse=True)
def unpublished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SKIP, raising=False)
    monkeypatch.setattr(module, "AT_ONCE_S", 0.0)  # tests are quicker than people


def test_without_a_guess_a_measurement_stops_with_one_line() -> None:
    guess = Guess("How slow?", ["mesh"], unit="ms")

    with pytest.raises(NoGuessYetError, match="Guess first") as stopped:
        guess.unlock()
    assert stopped.value._render_traceback_() == [str(stopped.value)]


class Shell:
    """A notebook's shell, of which ``kernel`` says whether its user can be asked."""

    def __init__(self, *, allow_stdin: bool) -> None:
        self.kernel = self
        self._allow_stdin = allow_stdin


def test_a_notebook_that_runs_by_itself_measures_without_a_guess(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    guess = Guess("How slow?", ["mesh"], unit="ms")

    monkeypatch.setattr(module, "get_ipython", lambda: Shell(allow_stdin=True))
    with pytest.raises(NoGuessYetError, match="LAB_GUESSES=skip"):
        guess.unlock()

    monkeypatch.setattr(module, "get_ipython", lambda: Shell(allow_stdin=False))
    assert guess.unlock() == {}
    assert capsys.readouterr().out == "Measured without a guess: the notebook runs by itself.\n"


def test_cells_that_run_at_once_do_not_stop_at_a_guess(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    guess = Guess("How slow?", ["mesh"], unit="ms")
    form(guess, monkeypatch)

    monkeypatch.setattr(module, "AT_ONCE_S", 60.0)
    assert guess.unlock() == {}
    assert "its cells ran at once; guess above" in capsys.readouterr().out
    monkeypatch.setattr(module, "AT_ONCE_S", 0.0)
    with pytest.raises(NoGuessYetError):
        guess.unlock()


def test_numbers_typed_into_the_form_unlock_it(monkeypatch: pytest.MonkeyPatch) -> None:
    guess = Guess("How slow?", ["gateway", "mesh"], unit="ms")
    shown = form(guess, monkeypatch)
    [button], (gateway, mesh) = shown["Button"], shown["Text"]
    assert (gateway.description, mesh.description) == ("gateway, ms", "mesh, ms")

    gateway.value = "15"
    button.click()
    assert "✗ mesh: write a number of ms" in shown["HTML"][-1].value
    with pytest.raises(NoGuessYetError):
        guess.unlock()

    mesh.value = "−0,5"
    button.click()
    assert "✓ Guessed" in shown["HTML"][-1].value
    assert guess.unlock() == {"gateway": 15.0, "mesh": -0.5}


def test_boxes_ticked_in_the_form_unlock_it_and_none_means_no_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    guess = Guess("Who is cut off?", ["gateway", "mesh"], choices=CALLERS)
    shown = form(guess, monkeypatch)

    shown["Checkbox"][1].value = True
    shown["Button"][0].click()

    assert [box.description for box in shown["Checkbox"]] == [*CALLERS, *CALLERS]
    assert guess.unlock() == {"gateway": {"search"}, "mesh": set()}


@pytest.mark.parametrize(
    ("given", "problem"),
    [({"mesh": {"tv"}}, "mesh: tv is not among homepage, search"), ({}, "guess for each of mesh"), ({"a": ()}, "mesh")],
)
def test_another_guess_is_refused(given: dict[str, Any], problem: str) -> None:
    guess = Guess("Who is cut off?", ["mesh"], choices=CALLERS)

    with pytest.raises(InputError, match=problem):
        guess.give(given)
    assert guess.given == {}


def test_a_notebook_that_is_published_measures_without_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SKIP, "skip")

    assert Guess("How slow?", ["mesh"]).unlock() == {}
