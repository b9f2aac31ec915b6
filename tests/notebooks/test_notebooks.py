"""Notebooks are kept without what a run left in them, run from top to bottom, and leave nothing behind."""

import json
import os
import secrets
from datetime import timedelta
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from lab import CHECKOUT
from lab.lab import Lab
from lab.waiting import eventually
from tests.notebooks.jupyter import ask, make_notebooks
from tests.notebooks.processes import await_nothing_left, processes_of

NOTEBOOKS = sorted((CHECKOUT / "notebooks").glob("*.ipynb"))
FIRST = NOTEBOOKS[0]
"""Run by :mod:`tests.notebooks.test_browser`, which shows its output."""
CELL_TIMEOUT_S = 90

a_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def run(notebook: nbformat.NotebookNode) -> None:
    """Executes all cells in a fresh kernel, where JupyterLab would."""
    resources = {"metadata": {"path": str(CHECKOUT / "notebooks")}}
    # With this variable a kernel shows only what Python prints, not what libraries write to its stderr.
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    NotebookClient(notebook, timeout=CELL_TIMEOUT_S, resources=resources).execute(env=environment)


def guess(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Has each form filled in, below the cell that shows it: with 1, or with the first choice."""
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if "guess" in cell.metadata.get("tags", ()):
            form = cell.source.splitlines()[-1]
            given = f"{form}.give({{name: {form}.choices[:1] or 1 for name in {form}.names}})"
            cells.append(nbformat.v4.new_code_cell(given))
    notebook.cells = cells
    return notebook


def run_to_the_end(path: Path, lab: Lab) -> nbformat.NotebookNode:
    """Runs a notebook from top to bottom, without a complaint and leaving no process; returns it with its output."""
    notebook = guess(nbformat.read(path, as_version=4))

    run(notebook)

    for cell in code_cells(notebook):
        complaints = [output.text for output in cell.outputs if output.get("name") == "stderr"]
        assert complaints == [], cell.id
    assert processes_of(lab) == []
    assert not lab.folder.exists()
    return notebook


def code_cells(notebook: nbformat.NotebookNode) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@a_notebook
def test_a_notebook_is_kept_without_what_a_run_left_in_it(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)

    nbformat.validate(notebook)
    remedy = "`make format` puts it right"
    for cell in code_cells(notebook):
        assert (cell.outputs, cell.execution_count) == ([], None), f"{cell.id}: {remedy}"
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags"}, f"{cell.id}: {remedy}"
    assert set(notebook.metadata) == {"kernelspec", "language_info"}, remedy
    assert notebook.metadata.language_info == {"name": "python"}, remedy


@pytest.mark.parametrize("path", [each for each in NOTEBOOKS if each != FIRST], ids=lambda path: path.stem)
@pytest.mark.timeout(240)
def test_a_notebook_runs_from_top_to_bottom_and_leaves_no_process(path: Path, lab: Lab) -> None:
    run_to_the_end(path, lab)


AS_FOR_A_PERSON = """
from lab.plugins.workshop import guess
guess.get_ipython, guess.AT_ONCE_S = lambda: None, 0.0
"""


def test_a_measurement_waits_for_its_guess_and_says_so_in_one_line(lab: Lab) -> None:
    notebook = nbformat.read(CHECKOUT / "notebooks" / "1-name-the-use-case.ipynb", as_version=4)
    kept = {"lab-up", "guess-move", "move"}
    notebook.cells = [cell for cell in notebook.cells if cell.id in kept]
    notebook.cells[0].source = notebook.cells[0].source.partition("lab = ")[0] + AS_FOR_A_PERSON

    with pytest.raises(CellExecutionError):
        run(notebook)

    [error] = [output for output in notebook.cells[-1].outputs if output.output_type == "error"]
    [line] = error.traceback
    assert line.startswith("Guess first: ")
    assert not lab.folder.exists()


def test_a_notebook_that_breaks_off_takes_its_lab_along(lab: Lab) -> None:
    notebook = nbformat.read(FIRST, as_version=4)
    up = next(index for index, cell in enumerate(notebook.cells) if "lab.up(" in cell.source)
    notebook.cells.insert(up + 1, nbformat.v4.new_code_cell("raise RuntimeError('broken off')"))

    with pytest.raises(CellExecutionError, match="broken off"):
        run(notebook)  # and ends the kernel

    await_nothing_left(lab)


def test_make_opens_jupyterlab_for_this_machine_and_the_holder_of_the_token_alone(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = secrets.token_hex(16)
    opened, browser = tmp_path / "opened", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\ncat "${{1#file://}}" > {opened}\n')  # a file that leads there, with the token
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    with make_notebooks(lab, token, tmp_path / "make.log", "") as server:
        eventually(
            "the browser opens at the first notebook",
            lambda: opened.read_text() if opened.exists() else "",
            within=timedelta(seconds=20),
            until=lambda page: "/lab/tree/notebooks/0-first-look.ipynb" in page,
        )
        status, answer = ask(f"{server['url']}api/status", token)
        assert status == 200
        assert "started" in json.loads(answer)
        assert ask(f"{server['url']}api/status", "another")[0] == 403

        listening = psutil.Process(server["pid"]).net_connections(kind="inet")
        assert {each.laddr.ip for each in listening if each.status == psutil.CONN_LISTEN} == {"127.0.0.1"}

        _, answer = ask(f"{server['url']}api/contents/notebooks", token)
        assert {path.name for path in NOTEBOOKS} <= {entry["name"] for entry in json.loads(answer)["content"]}
        _, page = ask(f"{server['url']}lab", token)
        assert "<title>JupyterLab</title>" in page
        _, answer = ask(f"{server['url']}lab/api/settings/@jupyterlab/apputils-extension:notification", token)
        assert json.loads(answer)["schema"]["properties"]["fetchNews"]["default"] == "false"
        status, _ = ask(f"{server['url']}api/kernels", token, body=b'{"name": "python3"}')
        assert status == 201
        assert any("ipykernel_launcher" in command for command in processes_of(lab))

    assert processes_of(lab) == []
