from __future__ import annotations

from typing import Any

import pytest

from tests.checkers.builders import two_versions


@pytest.fixture
def document() -> dict[str, Any]:
    """Its own table for a test that changes it."""
    return two_versions()
