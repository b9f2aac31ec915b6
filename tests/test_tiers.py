"""A test's tier follows from what it uses, and no test can do more than its tier says."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import grpc.aio
import pytest

from lab.lab import Lab
from tests.labs import lab_up
from tests.tiers import TIERS, Guard, _names_from, tier_of_names
from tests.waiting import eventually


def pure() -> int:
    return len(TIERS)


def spawns() -> None:
    subprocess.run([sys.executable, "-c", ""], check=True)


def spawns_by_way_of_a_class() -> None:
    _Thing().start()


class _Thing:
    def start(self) -> None:
        self.steps: list[Callable[[], None]] = [spawns]


def brings_a_lab_up(folder: Path) -> None:
    with lab_up(folder):
        pass


def breaks_the_lab_that_it_is_given(lab: Lab) -> None:
    lab.up()


def waits_in_a_helper_of_the_tests() -> object:
    return eventually


@pytest.mark.parametrize(
    ("function", "tier"),
    [
        (pure, "unit"),
        (waits_in_a_helper_of_the_tests, "unit"),
        (spawns, "server"),
        (spawns_by_way_of_a_class, "server"),
        (brings_a_lab_up, "lab"),
        (breaks_the_lab_that_it_is_given, "lab"),
    ],
)
def test_a_tier_follows_from_all_that_code_names(function: Callable[..., object], tier: str) -> None:
    assert tier_of_names(_names_from(function)) == tier


@pytest.mark.parametrize("values", [{"compose"}, {"gateway-nginx"}])
def test_containers_and_third_party_proxies_are_slow_where_they_are_started(values: set[str]) -> None:
    started = _names_from(spawns) | {"tests.proxies.proxy_up"}

    assert tier_of_names(started, values) == "slow"
    assert tier_of_names(_names_from(pure), values) == "unit"


def test_every_test_has_one_tier(request: pytest.FixtureRequest) -> None:
    for item in request.session.items:
        assert len({mark.name for mark in item.iter_markers()} & set(TIERS)) == 1, item.nodeid


def binds() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))


def starts_a_unit() -> None:
    os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {"LAB_UNIT": "x:y"})


@pytest.fixture
def guard(pytestconfig: pytest.Config) -> Iterator[Guard]:
    """The session's, which then goes on to watch this test."""
    guard = pytestconfig.pluginmanager.getplugin("guard")
    yield guard
    guard.watch("")


@pytest.mark.parametrize(
    ("tier", "act", "what"),
    [
        ("unit", spawns, "subprocess.Popen"),
        ("unit", binds, "socket.bind"),
        ("unit", grpc.aio.server, "grpc.server"),
        ("unit", os.fork, "os.fork"),
        ("server", starts_a_unit, "a unit of a lab"),
    ],
)
def test_a_test_cannot_start_more_than_its_tier_says(
    guard: Guard, tier: str, act: Callable[[], object], what: str
) -> None:
    guard.watch(tier)
    with pytest.raises(pytest.fail.Exception, match=f"{what}: not in tier {tier}"):
        act()
    guard.watch("server")


def test_a_refusal_that_is_caught_fails_the_test_all_the_same(guard: Guard) -> None:
    guard.watch("unit")
    with suppress(BaseException):
        spawns()

    with pytest.raises(pytest.fail.Exception, match=r"subprocess\.Popen: not in tier unit"):
        guard.judge()
    guard.watch("server")
