"""Drivers in containers of their own, each with its own network, share one run."""

from __future__ import annotations

from collections.abc import Iterator

import docker
import pytest
from docker.models.containers import Container

from lab.checkers import Outcome, Verdict
from lab.lab import Lab
from lab.load.progress import Progress
from lab.runs import LoadOptions, RunResult
from tests.labs import docker_objects_of, lab_up, write_spec


@pytest.fixture(scope="module")
def lab(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    del engine
    home = tmp_path_factory.mktemp("drivers")
    with lab_up(home, spec=write_spec(home), security="mtls", runtime="compose") as lab:
        yield lab


def options(duration_s: float) -> LoadOptions:
    return LoadOptions(topology="mesh", caller="homepage", rate=50, duration_s=duration_s, drivers=2)


def drivers_of(lab: Lab, engine: docker.DockerClient) -> list[Container]:
    names = sorted(name for name in docker_objects_of(lab) if "-driver-" in name)
    return [engine.containers.get(name) for name in names]


def about_drivers(result: RunResult) -> Verdict:
    [verdict] = [each for each in result.verdicts if each.checker == "drivers"]
    return verdict


def test_drivers_with_networks_of_their_own_send_what_one_would(lab: Lab, engine: docker.DockerClient) -> None:
    addresses: set[str] = set()

    def look(_: Progress) -> None:
        for each in drivers_of(lab, engine):
            [network] = each.attrs["NetworkSettings"]["Networks"].values()
            addresses.add(network["IPAddress"])  # empty once the driver has ended

    result = lab.load(options(2), progress=look)

    assert len(addresses - {""}) == 2
    assert about_drivers(result).outcome == Outcome.VALID
    assert result.summary.ok == result.summary.planned > 0
    assert result.misrouted == 0
    assert drivers_of(lab, engine) == []


def test_a_driver_whose_container_dies_makes_the_verdict_unknown_and_is_named(
    lab: Lab, engine: docker.DockerClient
) -> None:
    killed: list[str] = []

    def kill(progress: Progress) -> None:
        if progress.done and not killed:
            _, second = drivers_of(lab, engine)
            killed.append(str(second.name))
            second.kill()

    result = lab.load(options(60), progress=kill)

    verdict = about_drivers(result)
    assert verdict.outcome == result.outcome == Outcome.UNKNOWN
    assert f"driver 2 of 2 in container {killed[0]} ended with status 137 before its time" in verdict.summary
    assert 0 < result.summary.ok < result.summary.planned
