from collections.abc import AsyncIterator

import pytest

from tests.parts import ControlPlane, Model


@pytest.fixture
async def control_plane() -> AsyncIterator[ControlPlane]:
    plane = ControlPlane()
    async with plane.up():
        yield plane


@pytest.fixture
async def model() -> AsyncIterator[Model]:
    async with Model("rows.v1", "rows.v2").up() as running:
        yield running
