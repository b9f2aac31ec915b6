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
TOPOLOGIES = ("gateway", "gateway-passthrough", "gateway-header", "mesh", "proxyless")
"""What the scenarios are about: every way that follows the rules. ``mesh-unleased`` does too, and may be asked for."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the scenarios."""
    parser.addoption("--runtime", default="auto", help="how units run: process, compose, or auto")
    parser.addoption("--lab", default=None, help="name of a lab that is up, instead of bringing one up")
    parser.addoption("--topology", default=",".join(TOPOLOGIES), help="which ways to take, separated by commas")
    parser.addoption("--long", action="store_true", help="run also those that take minutes")


def pytest_configure(config: pytest.Config) -> None:
    """Refuses what no scenario is about."""
    known = [*TOPOLOGIES, "mesh-unleased"]
    for name in _topologies(config):
        if name not in known:
            raise pytest.UsageError(
                f"--topology: {name!r} is no topology of the scenarios; write some of {','.join(known)}"
            )
    if not _topologies(config):
        raise pytest.UsageError(f"--topology: is empty; write some of {','.join(known)}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a scenario once for each topology that was asked for, if it takes one."""
    if "topology" in metafunc.fixturenames:
        metafunc.parametrize("topology", _topologies(metafunc.config))


def _topologies(config: pytest.Config) -> list[str]:
    return [name for name in dict.fromkeys(config.getoption("--topology").split(",")) if name]


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


@pytest.fixture(scope="session")
def topologies(pytestconfig: pytest.Config) -> list[str]:
    """All ways from caller to model that were asked for; ``topology`` is each of them."""
    return _topologies(pytestconfig)


@pytest.fixture
def routes(lab: Lab) -> Iterator[Path]:
    """The default route table, in force before and after the scenario."""
    yield ROUTES
    lab.publish(ROUTES, comment="as before the scenario")
