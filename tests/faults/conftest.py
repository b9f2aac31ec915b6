"""A small lab of processes for faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.lab import Lab


@pytest.fixture
def lab(small_lab: Lab) -> Iterator[Lab]:
    """Nothing is injected afterwards."""
    yield small_lab
    small_lab.faults.heal()


@pytest.fixture
def routes(lab: Lab) -> Iterator[Path]:
    """The route table that the lab began with, put back afterwards."""
    table = lab.folder.parent.parent / "routes.yaml"
    yield table
    lab.routes.publish(table)
