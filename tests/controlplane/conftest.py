"""A real control plane, and what it is fed with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.controlplane.publishing.publisher import Timeouts
from services.controlplane.registry.revisions import Registry
from tests.controlplane.nodes import ControlPlane, running


@pytest.fixture
def timeouts() -> Timeouts:
    return Timeouts(load=1.0, acknowledge=1.0, retire=0.05)


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that nobody has used."""
    if request.param == "sqlite":
        return str(tmp_path / "registry.sqlite")
    return str(request.getfixturevalue("postgresql").new_database())


@pytest.fixture
async def control_plane(tmp_path: Path, timeouts: Timeouts) -> AsyncIterator[ControlPlane]:
    registry = Registry(tmp_path / "registry.sqlite")
    async with running(registry, timeouts) as control_plane:
        yield control_plane
    registry.close()
