from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.parts import ControlPlane, Model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def control_plane() -> AsyncIterator[ControlPlane]:
    plane = ControlPlane()
    async with plane.up():
        yield plane


@pytest.fixture
async def model() -> AsyncIterator[Model]:
    async with Model("rows.v1", "rows.v2").up() as running:
        yield running
