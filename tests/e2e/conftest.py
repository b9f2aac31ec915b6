"""Labs that are really up, as local processes, one of each kind a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab import CHECKOUT
from tests.labs import lab_up

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.lab import Lab


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The default lab."""
    with lab_up(tmp_path_factory.mktemp("default-lab")) as lab:
        yield lab


@pytest.fixture
def routes(lab: Lab) -> Iterator[Path]:
    """The default route table, put back afterwards."""
    yield CHECKOUT / "routes.yaml"
    lab.routes.publish(CHECKOUT / "routes.yaml")
