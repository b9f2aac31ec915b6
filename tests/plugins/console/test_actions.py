from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from lab.cli import app
from lab.errors import InputError
from lab.faults.kinds.flood import Flood
from lab.lab import Lab
from lab.plugins.console.actions import ACTIONS, Actions
from lab.plugins.console.board import Board
from tests.waiting import eventually


@pytest.mark.parametrize(
    ("action", "values", "words"),
    [
        ("inject", {"kind": "kill", "target": "gateway-1"}, ["fault", "inject", "kill", "gateway-1"]),
        (
            "flood",
            {"kind": "flood", "target": "ads", "topology": "gateway", "times": "2", "caller": ""},
            ["fault", "inject", "flood", "ads", "--set=times=2", "--set=topology=gateway"],
        ),
        ("heal", {"fault": "all"}, ["fault", "heal", "all"]),
        (
            "load",
            {"topology": "gateway,mesh", "rate": "30", "caller": "", "context": "device=tv*3,phone"},
            ["load", "--topology=gateway,mesh", "--rate=30", "--context=device=tv*3,phone"],
        ),
        (
            "publish",
            {"file": "routes.yaml", "comment": "--force"},
            ["routes", "publish", "routes.yaml", "--comment=--force"],
        ),
        ("rollback", {"revision": "1"}, ["routes", "rollback", "1"]),
        ("roll", {"model": "rows", "to": "v2", "steps": "50,100"}, ["roll", "rows", "--to=v2", "--steps=50,100"]),
    ],
)
def test_a_button_is_a_command(action: str, values: dict[str, str], words: list[str]) -> None:
    assert ACTIONS[action].words(values) == words


@pytest.mark.parametrize(
    ("action", "values", "says"),
    [
        ("inject", {"kind": "kill", "target": "--for=1"}, "fault inject: target: '--for=1' is not a name"),
        ("inject", {"kind": "kill"}, "fault inject: target: '' is not a name"),
        ("publish", {"file": "-"}, "routes publish: file: '-' is not a name"),
        ("load", {"plugin": "evil.py"}, "load: has no plugin"),
    ],
)
def test_values_cannot_become_other_options(action: str, values: dict[str, str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        ACTIONS[action].words(values)


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_is_a_command_of_lab_with_these_options(action: str) -> None:
    command: Any = get_command(app)
    for word in ACTIONS[action].command:
        command = command.get_command(None, word)

    parameters = {each.opts[0].lstrip("-") for each in command.params}
    assert set(ACTIONS[action].options) <= parameters
    assert not ACTIONS[action].settings or "set" in parameters
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    required = [each for each in arguments if each.required]
    assert len(required) <= len(ACTIONS[action].arguments) <= len(arguments)


def test_the_settings_of_a_flood_are_those_of_its_kind() -> None:
    assert set(ACTIONS["flood"].settings) <= {each.name for each in Flood.settings}


async def test_a_refusal_of_the_command_is_shown(tmp_path: Path) -> None:
    board = Board()
    actions = Actions(board, Lab("nobody-has-this", home=tmp_path))

    job = await actions.act("inject", {"kind": "kill", "target": "gateway-1"})
    await eventually("it has ended", lambda: job_of(board)["state"] != "running", within=timedelta(seconds=60))

    assert job == "1"
    assert job_of(board) == {
        "command": "lab fault inject kill gateway-1 --name nobody-has-this",
        "state": "ended with status 1",
        "output": "lab: lab nobody-has-this is not up: run `lab up` (or name another with --name)\n",
    }


def job_of(board: Board) -> dict[str, str]:
    found: dict[str, str] = board._documents["job"]["1"]
    return found
