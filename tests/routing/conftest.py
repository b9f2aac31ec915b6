from pathlib import Path

import pytest

from lab.routing.compiled import Router
from lab.routing.document import RouteTable, read_path


@pytest.fixture
def sample_path() -> Path:
    return Path(__file__).parent / "routes.yaml"


@pytest.fixture
def sample_table(sample_path: Path) -> RouteTable:
    return read_path(sample_path)


@pytest.fixture
def sample_router(sample_table: RouteTable) -> Router:
    return Router.of_document(sample_table.document, revision=7)
