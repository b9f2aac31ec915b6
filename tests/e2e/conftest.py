"""Labs that are really up, as local processes, for one module at a time: an idle one takes half a core."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import CHECKOUT
from lab.lab import Lab
from tests.labs import lab_up


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The default lab."""
    with lab_up(tmp_path_factory.mktemp("default-lab")) as lab:
        yield lab


@pytest.fixture
def routes(lab: Lab) -> Iterator[Path]:
    """The default route table, put back afterwards."""
    yield CHECKOUT / "routes.yaml"
    lab.routes.publish(CHECKOUT / "routes.yaml")
