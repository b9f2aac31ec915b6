"""The default lab, really up, as local processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import CHECKOUT
from lab.lab import Lab


@pytest.fixture(scope="module")
def lab(default_lab: Lab) -> Lab:
    """The default lab."""
    return default_lab


@pytest.fixture
def routes(lab: Lab) -> Iterator[Path]:
    """The default route table, put back afterwards."""
    yield CHECKOUT / "routes.yaml"
    lab.routes.publish(CHECKOUT / "routes.yaml")
