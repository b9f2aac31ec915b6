"""Notebooks are kept without what a run left in them, run from top to bottom, and leave nothing behind."""

import json
import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nbformat
import psutil
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from lab import CHECKOUT
from lab.lab import Lab
from lab.waiting import eventually
from tests.notebooks.processes import await_nothing_left, processes_of

NOTEBOOKS = sorted((CHECKOUT / "notebooks").glob("*.ipynb"))
CELL_TIMEOUT_S = 90

a_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def run(notebook: nbformat.NotebookNode) -> None:
    """Executes all cells in a fresh kernel, where JupyterLab would."""
    resources = {"metadata": {"path": str(CHECKOUT / "notebooks")}}
    # With this variable a kernel shows only what Python prints, not what libraries write to its stderr.
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    NotebookClient(notebook, timeout=CELL_TIMEOUT_S, resources=resources).execute(env=environment)


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


@a_notebook
@pytest.mark.timeout(240)
def test_a_notebook_runs_from_top_to_bottom_and_leaves_no_process(path: Path, lab: Lab) -> None:
    notebook = nbformat.read(path, as_version=4)

    run(notebook)

    for cell in code_cells(notebook):
        complaints = [output.text for output in cell.outputs if output.get("name") == "stderr"]
        assert complaints == [], cell.id
    assert processes_of(lab) == []
    assert not lab.folder.exists()


def test_a_notebook_that_breaks_off_takes_its_lab_along(lab: Lab) -> None:
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    up = next(index for index, cell in enumerate(notebook.cells) if "lab.up(" in cell.source)
    notebook.cells.insert(up + 1, nbformat.v4.new_code_cell("raise RuntimeError('broken off')"))

    with pytest.raises(CellExecutionError, match="broken off"):
        run(notebook)  # and ends the kernel

    await_nothing_left(lab)


def test_make_opens_jupyterlab_for_this_machine_and_the_holder_of_the_token_alone(lab: Lab, tmp_path: Path) -> None:
    token = secrets.token_hex(16)
    with make_notebooks(lab, token, tmp_path / "make.log") as server:
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


@contextmanager
def make_notebooks(lab: Lab, token: str, log: Path) -> Iterator[dict[str, Any]]:
    """``make notebooks`` as long as the block lasts, and what the server says of itself."""
    command = ["make", "notebooks", f"NAME={lab.name}", "ARGS=--no-browser --port=0"]
    environment = {**os.environ, "JUPYTER_TOKEN": token}
    with (
        log.open("w") as file,
        subprocess.Popen(
            command, cwd=CHECKOUT, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        ) as make,
    ):

        def look() -> dict[str, Any] | None:
            assert make.poll() is None, log.read_text()
            found = [path.read_text() for path in log.parent.glob("JUPYTER_RUNTIME_DIR/jpserver-*.json")]
            if not found or not found[0].endswith("}"):
                return None
            said = json.loads(found[0])
            with socket.socket() as probe:  # it says where it will listen a moment before it does
                return said if probe.connect_ex(("127.0.0.1", said["port"])) == 0 else None

        ends = make.pid
        try:
            server = eventually("JupyterLab is up", look, within=timedelta(seconds=60), until=lambda it: it is not None)
            assert server is not None
            ends = server["pid"]
            yield server
        finally:
            # The server alone, as it ends its kernels first; make has nothing to do but wait for it.
            os.kill(ends, signal.SIGTERM)
            try:
                make.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(make.pid, signal.SIGKILL)


def ask(url: str, token: str, body: bytes | None = None) -> tuple[int, str]:
    """Status and body of what an HTTP server on this machine answers; with a body, to a POST."""
    address = urlsplit(url)
    connection = HTTPConnection(address.netloc, timeout=20)
    with closing(connection):
        headers = {"Authorization": f"token {token}"}
        connection.request("GET" if body is None else "POST", address.path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
