"""What pytest loads of the scenarios in every suite of an environment with the lab: options, marks, and a look.

The rest is imported with the first module that has a scenario, and touches no test without the mark ``scenario``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

_PLUGIN = "scenarios.framework.plugin"
_MARKS = (
    "scenario(takes_s, topologies, runtimes): a claim about topologies, tried on a lab that is up",
    "long: takes minutes; runs only with --lab-long",
)


def add_options(parser: pytest.Parser, prefix: str, *, name: str) -> None:
    """Adds the options of scenarios; ``name`` is that of the one that names a lab."""
    group = parser.getgroup("scenarios", "scenarios of the routing lab")
    group.addoption(f"{prefix}runtime", dest="lab_runtime", help="how units run: process, compose, or auto")
    group.addoption(name, dest="lab_name", help="name of a lab that is up, instead of bringing one up")
    group.addoption(f"{prefix}topology", dest="lab_topology", help="topologies to run on, separated by commas")
    group.addoption(f"{prefix}long", dest="lab_long", action="store_true", help="run scenarios that take minutes, too")
    group.addoption(f"{prefix}runs", dest="lab_runs", type=Path, help="folder for the run folders")


def asked_runtime(config: pytest.Config) -> str:
    """The runtime of labs that are brought up: process, compose, or auto."""
    return str(config.getoption("lab_runtime") or "auto")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options, with a prefix that no other suite has."""
    add_options(parser, "--lab-", name="--lab-name")


def pytest_configure(config: pytest.Config) -> None:
    """Makes the marks known."""
    for mark in _MARKS:
        config.addinivalue_line("markers", mark)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> None:
    """Loads the plugin before the first module that has a scenario."""
    manager = parent.config.pluginmanager
    if not manager.has_plugin(_PLUGIN) and b"mark.scenario" in module_path.read_bytes():
        manager.import_plugin(_PLUGIN)
