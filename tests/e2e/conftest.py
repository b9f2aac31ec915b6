"""Labs that are really up, as local processes, one of each kind a worker."""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from lab.lab import CHECKOUT, Lab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LAB = Path(sys.executable).parent / "lab"

MINI_SPEC = """
topologies = ["gateway", "mesh"]
routes = "routes.yaml"
[callers.homepage]
[gateway]
replicas = 1
"""
MINI_ROUTES = """
use_cases:
  ContinueWatchingRanking:
    callers: [homepage]
    api: ranking.v1
    timeout: 2s
    default: cw-ranker@v1
models:
  cw-ranker:
    versions:
      v1: {cluster: ml-cluster-1}
clusters:
  ml-cluster-1: {replicas: 1}
"""


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The default lab."""
    lab = Lab(f"test-{secrets.token_hex(3)}", home=tmp_path_factory.mktemp("default-lab"))
    try:
        lab.up(runtime="process")
        yield lab
    finally:
        lab.down()


@pytest.fixture
def routes(lab: Lab) -> Iterator[Path]:
    """The default route table, put back afterwards."""
    yield CHECKOUT / "routes.yaml"
    lab.publish(CHECKOUT / "routes.yaml")


@pytest.fixture
def mini_spec(tmp_path: Path) -> Path:
    """Five units: enough for questions of life and death."""
    (tmp_path / "routes.yaml").write_text(MINI_ROUTES)
    spec = tmp_path / "mini.toml"
    spec.write_text(MINI_SPEC)
    return spec


@pytest.fixture
def new_lab(tmp_path: Path) -> Iterator[Callable[[], Lab]]:
    """Makes labs that are taken down afterwards, whatever has become of them."""
    made: list[Lab] = []

    def make() -> Lab:
        lab = Lab(f"test-{secrets.token_hex(3)}", home=tmp_path)
        made.append(lab)
        return lab

    yield make
    for lab in made:
        lab.down()


@pytest.fixture
def run_lab() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the ``lab`` command."""

    def run(lab: Lab | None, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {} if lab is None else {"LAB_NAME": lab.name, "LAB_HOME": str(lab.folder.parent.parent)}
        return subprocess.run(
            [str(LAB), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
            env={"PATH": "/usr/bin:/bin", "LAB_RUNTIME": "process", **environment},
        )

    return run


@pytest.fixture
def processes_of() -> Callable[[Lab], list[int]]:
    """Ids of all processes that carry a lab's mark."""

    def find(lab: Lab) -> list[int]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("LAB_UNIT", "").startswith(f"{lab.folder}:"):
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found

    return find
