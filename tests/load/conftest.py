from collections.abc import AsyncIterator

import pytest

from tests.load.builders import GatedServer, gated_server


@pytest.fixture(name="server")
async def fixture_server() -> AsyncIterator[GatedServer]:
    async with gated_server() as gated:
        yield gated
