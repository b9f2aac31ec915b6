"""``lab new scenario``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lab.cli.output import as_typed, console
from lab.errors import InputError

app = typer.Typer(help="Write the files of something of one's own.", no_args_is_help=True)

_FILES = {
    "test_moves.py": '''"""Scenarios: each is a claim, and runs once for each topology that is asked for."""

import pytest

from lab.runs import LoadOptions
from scenarios.framework.steps import assert_all_answered_rightly, under_load


@pytest.mark.scenario(takes_s=3)
def test_publishing_the_same_table_disturbs_nobody(scenario, lab, topology, routes, rate):
    """A revision that changes nothing goes out under load, and every request is answered as before."""
    load = LoadOptions(topology=topology, caller="homepage", rate=rate, duration_s=20)

    with under_load(lab, load) as run, scenario.step("Publish the table that is in force"):
        lab.routes.publish(routes, comment="the same again")

    assert_all_answered_rightly(run.result())
''',
    "conftest.py": '''"""Fixtures of these scenarios; those of the lab come with its pytest plug-in."""

import pytest


@pytest.fixture
def rate():
    """Requests per second of the load."""
    return 50
''',
    ".github/workflows/scenarios.yaml": """name: scenarios
on: [push, pull_request]
jobs:
  scenarios:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with: {python-version: "3.13"}
      # Or the path, or the address, of a wheel of the lab.
      - run: pip install "inference-routing-lab[testing]"
      - run: pytest --lab-topology gateway,mesh --lab-runtime process
""",
}


@app.callback()
def _new() -> None:
    pass


@app.command()
def scenario(
    folder: Annotated[Path, typer.Argument(help="New or empty folder to write to.")],
) -> None:
    """Write a folder with a scenario that runs, its conftest and a GitHub workflow.

    Example: lab new scenario my-scenarios
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder}: is not empty; name a new folder, or an empty one")
    try:
        for name, text in _FILES.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            console.print(f"{path}", markup=False)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}; name a folder that can be written") from error
    console.print(f"\nTry next:\n  {as_typed('pytest')} {folder} --lab-topology mesh", markup=False)
