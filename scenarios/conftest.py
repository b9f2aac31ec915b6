"""Runs the scenarios of this folder by the machinery in ``scenarios.framework``, with short names of its options."""

import pytest

from scenarios.entry import add_options

pytest_plugins = ["scenarios.framework.plugin"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options."""
    add_options(parser, "--", name="--lab")
