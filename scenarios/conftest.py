"""Which lab the scenarios run against, and what they have at hand.

By default each xdist worker brings up a lab of its own and takes it down. With ``--lab NAME`` they run, one after the
other, against a lab that is up.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from lab.lab import CHECKOUT, Lab

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROUTES = CHECKOUT / "routes.yaml"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the scenarios."""
    parser.addoption("--runtime", default="auto", help="how units run: process, compose, or auto")
    parser.addoption("--lab", default=None, help="name of a lab that is up, instead of bringing one up")
    parser.addoption("--long", action="store_true", help="run also those that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves the long ones out unless they are asked for, and bounds each by itself.

    Bringing the lab up has deadlines of its own: it may include an image to build, and is no scenario's time.
    """
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(float(config.getini("timeout")), func_only=True))
        if item.get_closest_marker("long") and not config.getoption("--long"):
            item.add_marker(pytest.mark.skip(reason="takes minutes: give --long"))


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab that is up."""
    name = request.config.getoption("--lab")
    if name is not None:
        if hasattr(request.config, "workerinput"):
            pytest.exit("--lab shares one lab, and scenarios publish: run them one after the other, without -n")
        yield Lab(name)
        return
    lab = Lab(f"scenarios-{secrets.token_hex(3)}", home=tmp_path_factory.mktemp("lab"))
    try:
        lab.up(runtime=request.config.getoption("--runtime"))
        yield lab
    finally:
        lab.down()


@pytest.fixture(params=["gateway", "mesh"])
def topology(request: pytest.FixtureRequest) -> str:
    """Each way from caller to model that the scenario is about."""
    return str(request.param)


@pytest.fixture
def routes(lab: Lab) -> Iterator[Path]:
    """The default route table, in force before and after the scenario."""
    yield ROUTES
    lab.publish(ROUTES, comment="as before the scenario")
