"""The default lab, really up, as local processes, while the modules that share it run: idle it takes half a core."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import CHECKOUT
from lab.lab import Lab
from tests.labs import SharedLabs, lab_up


@pytest.fixture(scope="module")
def lab(shared_labs: SharedLabs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The default lab."""
    with shared_labs.lab("the default lab", lambda: lab_up(tmp_path_factory.mktemp("default-lab"))) as lab:
        yield lab


@pytest.fixture
def routes(lab: Lab) -> Iterator[Path]:
    """The default route table, put back afterwards."""
    yield CHECKOUT / "routes.yaml"
    lab.routes.publish(CHECKOUT / "routes.yaml")
