"""What a test needs and a machine may lack."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skips the test that needs it; with ``CI`` set, where nothing may be missing, fails it."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)
