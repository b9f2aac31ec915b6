from __future__ import annotations

from typing import Any

import pytest

from tests.checkers.builders import two_versions


@pytest.fixture
def document() -> dict[str, Any]:
    """A table of its own for a test that changes it."""
    return two_versions()
