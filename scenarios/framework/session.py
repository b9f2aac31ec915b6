"""What the plugin and the fixtures of one pytest session share."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenarios.framework.catalogue import default_topologies
from scenarios.framework.console import Display
from scenarios.framework.scenario import Scenario

DISPLAY = pytest.StashKey[Display]()
FOLDER = pytest.StashKey[Path]()
SCENARIO = pytest.StashKey[Scenario]()
ERROR = pytest.StashKey[BaseException]()


def asked_topologies(config: pytest.Config) -> list[str]:
    """The topologies that ``--topology`` names, or those that scenarios run on by default."""
    asked = config.getoption("lab_topology")
    return list(default_topologies()) if asked is None else list(dict.fromkeys(filter(None, asked.split(","))))
