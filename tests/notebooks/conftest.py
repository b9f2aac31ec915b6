"""A lab of a notebook's own, and what is left of it."""

import secrets
from collections.abc import Iterator
from pathlib import Path

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
