"""A small lab of processes for faults, one a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.lab import Lab
from tests.labs import TWO_REPLICAS, lab_up, write_spec


@pytest.fixture(scope="module")
def lab_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    home = tmp_path_factory.mktemp("faults")
    with lab_up(home, spec=write_spec(home, routes=TWO_REPLICAS)) as lab:
        yield lab


@pytest.fixture
def lab(lab_of_module: Lab) -> Iterator[Lab]:
    """Nothing is injected afterwards."""
    yield lab_of_module
    lab_of_module.faults.heal()


@pytest.fixture
def routes(lab: Lab) -> Path:
    """The route table that the lab began with."""
    return lab.folder.parent.parent / "routes.yaml"
