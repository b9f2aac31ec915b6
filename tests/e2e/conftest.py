"""Labs that are really up, as local processes, one of each kind a worker."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import psutil
import pytest

from lab import CHECKOUT
from lab.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


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
    lab.routes.publish(CHECKOUT / "routes.yaml")


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
