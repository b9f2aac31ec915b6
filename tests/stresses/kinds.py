"""The stresses, each a function that puts a lab under stress and says beforehand what evidence it destroys."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.clock.wall_clock import set_wall_clock, wall_clock
from tests.disks import fill, mounted
from tests.mutants.catalogue import HOME
from tests.stresses.stressed import Stressed

_DISK_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Stress:
    """One stress.

    Attributes:
        run: puts a lab, which it brings up itself, under stress; all runs of its folder are judged.
        destroys: checkers of correctness that may be unknown, and the evidence that the stress takes from each.
        fails: why requests may fail without a marked fault, so that *availability* is invalid; empty if none may.
    """

    run: Callable[[Stressed], None]
    destroys: Mapping[str, str] = field(default_factory=dict)
    fails: str = ""


STRESSES: dict[str, Stress] = {}


def _stress(*, fails: str = "", **destroys: str) -> Callable[[Callable[[Stressed], None]], Callable[[Stressed], None]]:
    def add(run: Callable[[Stressed], None]) -> Callable[[Stressed], None]:
        STRESSES[run.__name__] = Stress(run, destroys, fails)
        return run

    return add


@_stress()
def hedging_with_churn(lab: Stressed) -> None:
    """Requests are hedged while connections to replicas are closed again and again."""
    lab.up("policy.toml", "mesh")
    lab.fault("slow", "slow", "--set", "ms=200")
    load = lab.load("mesh", "--use-case", "Hedged")
    load.answered()
    lab.fault("churn", "slow", "--for", "4")
    load.ended()


@_stress()
def frozen_gateway_and_resolver(lab: Stressed) -> None:
    """A gateway and a resolver answer nothing for a while, with their connections open."""
    lab.up("policy.toml", "mesh,gateway")
    loads = [lab.load(topology) for topology in ("gateway", "mesh")]
    for each in loads:
        each.answered()
    for unit in ("gateway-1", "homepage-resolver"):
        lab.fault("pause", unit, "--for", "3")
    for each in loads:
        each.ended()


@_stress(fails="more requests come than can be answered in time", split="requests that are not answered show no draw")
def overload(lab: Stressed) -> None:
    """Three times as many requests come as the lab can answer on two cores."""
    lab.up("lab.toml", "gateway")
    lab.load("gateway", "--rate", "2500", "--duration", "4").ended()


@_stress()
def clock_step(lab: Stressed) -> None:
    """The wall clock of all units is set forth by ten minutes."""
    lab.environment |= wall_clock(lab.home)
    lab.up("lab.toml", "mesh")
    load = lab.load("mesh")
    load.answered()
    set_wall_clock(lab.environment, 600)
    load.ended()


@_stress()
def full_disk(lab: Stressed) -> None:
    """The disk of the units' folders is full for a while; the run's own folder is on another one."""
    with mounted(lab.home, _DISK_BYTES) as disk:
        runs = lab.home / "runs"
        (disk / "runs").symlink_to(runs)
        runs.mkdir()
        lab.environment["LAB_HOME"] = str(disk)
        try:
            lab.up("lab.toml", "gateway")
            load = lab.load("gateway")
            load.answered()
            filler = fill(disk)
            load.answered(after=150)
            filler.unlink()
            load.ended()
        finally:
            lab.down()


@_stress()
def ctrl_c(lab: Stressed) -> None:
    """The load is stopped by Ctrl-C with requests in flight."""
    lab.up("lab.toml", "mesh")
    load = lab.load("mesh", "--rate", "200", "--duration", "60")
    load.answered(after=400)
    load.signal(signal.SIGINT)
    load.ended()


@_stress()
def roll_during_a_kill(lab: Stressed) -> None:
    """A version is rolled out while a replica of it is killed, and started again."""
    lab.up("lab.toml", "gateway")
    roll = lab.start(
        *("roll", "ranker", "--to", "v2", "--steps", "50,100", "--hold", "4", "--rate", "60", "--force"),
        *("--topology", "gateway"),
    )
    roll.answered()
    lab.fault("kill", "two", "--for", "2")
    roll.ended()


@_stress()
def two_labs_at_once(lab: Stressed) -> None:
    """Two labs share one machine, each under load."""
    with lab.beside() as other:
        for each in (lab, other):
            each.up("lab.toml", "mesh")
        loads = [each.load("mesh") for each in (lab, other)]
        for load in loads:
            load.ended()


@_stress()
def locust(lab: Stressed) -> None:
    """Locust's users drive the load while a table is published."""
    lab.up("lab.toml", "mesh")
    load = lab.load("mesh", "--engine", "locust")
    load.answered()
    lab.run("routes", "publish", str(HOME / "moved.routes.yaml"))
    load.ended()


@_stress()
def several_drivers(lab: Stressed) -> None:
    """Three drivers share the load while a replica is killed."""
    lab.up("policy.toml", "gateway")
    load = lab.load("gateway", "--drivers", "3")
    load.answered()
    lab.fault("kill", "slow-a", "--for", "2")
    load.ended()


@_stress()
def rotation(lab: Stressed) -> None:
    """Every unit gets a new certificate, twice."""
    lab.up("lab.toml", "mesh")
    load = lab.load("mesh")
    load.answered()
    for _ in range(2):
        lab.run("pki", "rotate")
    load.ended()


@_stress(split="requests that the only proxy fails show no draw")
def restart_of_a_proxy(lab: Stressed) -> None:
    """A third party's proxy is killed, and started again."""
    lab.up("lab.toml", "gateway-nginx")
    load = lab.load("gateway-nginx")
    load.answered()
    lab.fault("kill", "nginx", "--for", "2")
    load.ended()
