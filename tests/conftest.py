"""Units of tests are processes, also where a Docker engine answers; tests that are about containers say so."""

from __future__ import annotations

import os


def pytest_configure() -> None:
    """For this process, and all that it starts without an environment of their own."""
    os.environ["LAB_RUNTIME"] = "process"
