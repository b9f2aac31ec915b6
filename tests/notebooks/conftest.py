"""A lab of a notebook's own, and what is left of it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from lab.lab import Lab


@pytest.fixture
def lab(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """The lab that a notebook brings up, taken down whatever has become of it; and no file of anybody's is touched."""
    name = f"notebook-{secrets.token_hex(3)}"
    monkeypatch.setenv("LAB_NAME", name)
    monkeypatch.setenv("LAB_HOME", str(tmp_path_factory.mktemp("n")))  # sockets must not have long paths
    for folder in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(folder, str(tmp_path / folder))
    lab = Lab(name)
    yield lab
    lab.down()


@pytest.fixture
def processes_of() -> Callable[[Lab], list[list[str]]]:
    """Command lines of all processes that were started for a lab: kernels, guards and servers as well as units."""
    return _processes_of


def _processes_of(lab: Lab) -> list[list[str]]:
    home = str(lab.folder.parent.parent)
    found = []
    for process in psutil.process_iter():
        try:
            # Whose environment says so, and not this process, which has only set it since.
            if process.environ().get("LAB_HOME") == home and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.cmdline())
        except psutil.Error:
            continue
    return found
