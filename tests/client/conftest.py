from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from lab.transport import xds
from lab.transport.channels import OPTIONS
from tests.parts import ControlPlane, Model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(autouse=True)
def a_node_a_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process is one xDS node for good, but the process of these tests is to be a new one in each."""

    def options(control_plane: str, caller: str) -> Any:
        told = json.dumps(xds.bootstrap(control_plane, caller))
        return (*OPTIONS, ("grpc.TEST_ONLY_DO_NOT_USE_IN_PROD.xds_bootstrap_config", told))

    monkeypatch.setattr(xds, "_introduce", options)


@pytest.fixture
async def control_plane() -> AsyncIterator[ControlPlane]:
    plane = ControlPlane()
    async with plane.up():
        yield plane


@pytest.fixture
async def model() -> AsyncIterator[Model]:
    async with Model("rows.v1", "rows.v2").up() as running:
        yield running
