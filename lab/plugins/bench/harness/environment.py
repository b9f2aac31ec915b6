"""The environment a bench runs in: a lab of its own that is up, and units started beside it as yardsticks."""

from __future__ import annotations

import json
import os
import secrets
import socket
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import psutil

from lab.errors import UnitError
from lab.lab import DEFAULT_SPEC, Lab
from lab.measure.findings import Ran
from lab.roles import UNIX, Port, Unit
from lab.runs.version import machine_versions
from lab.runtime.process import ProcessRuntime
from lab.runtime.state import LabState
from lab.transport.security import PLAINTEXT
from lab.waiting import eventually

if TYPE_CHECKING:
    from lab.plugins.bench.harness.result import BenchResult

NICENESS = -5
"""Of a bench's units. Its driver has a higher priority, see :mod:`lab.plugins.bench.harness.driver_process`."""

_ADMIN_TIMEOUT_S = 5.0
_START_TIMEOUT = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Environment:
    """A lab that is up.

    Attributes:
        say: reports progress, one line a call.
        cache: measurements that several benches share, by name; each is made once.
        missing: what was not measured, and why: trials that failed, and rounds after an interrupt.
    """

    lab: Lab
    say: Callable[[str], None]
    cache: dict[str, Any] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    _interrupted: Event = field(default_factory=Event)

    def interrupt(self) -> None:
        """Asks the bench that runs to end with what it has."""
        self._interrupted.set()

    @property
    def interrupted(self) -> bool:
        """Whether the bench that runs is to end with what it has."""
        return self._interrupted.is_set()

    def within(self, outer: Environment) -> Environment:
        """Returns this lab as an environment that shares interrupts and gaps with the bench's own."""
        return replace(self, missing=outer.missing, _interrupted=outer._interrupted)

    @property
    def state(self) -> LabState:
        """The lab's state as it is now: a unit that was started again has another process id."""
        return LabState.of(self.lab.folder)

    @property
    def topologies(self) -> Sequence[str]:
        """The topologies of the lab, in the order of its spec."""
        return self.state.topologies

    def start(self, name: str, argv: tuple[str, ...], address: str, files: Mapping[str, str] | None = None) -> int:
        """Starts a unit beside the lab's own and returns its process id once it listens; it ends with the lab."""
        unit = Unit(name, "yardstick", argv, Port(address, address, address), files=files or {})
        [(_, running)] = self.runtime.start([unit])

        def listens() -> bool:
            if self.runtime.states({name: running})[name] == "exited":
                raise UnitError(f"{name} ended while starting: {self.runtime.last_words(name)}")
            if address.startswith(UNIX):
                with socket.socket(socket.AF_UNIX) as probe:
                    return probe.connect_ex(address.removeprefix(UNIX)) == 0
            host, port = address.rsplit(":", 1)
            with socket.socket() as probe:
                return probe.connect_ex((host, int(port))) == 0

        eventually(f"{name} listens on {address}", listens, within=_START_TIMEOUT)
        return running.pid

    def start_envoy(self, name: str, listen: str, config: str) -> int:
        """Starts an Envoy with one worker, because each of several would go round the replicas by itself."""
        node = ("--service-node", name, "--service-cluster", name)
        flags = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "error")
        argv = ("envoy", "--config-path", self.path(name, "envoy.yaml"), *node, *flags)
        return self.start(name, argv, listen, {"envoy.yaml": config})

    def address(self, name: str) -> str:
        """Returns a free address for a unit of this name."""
        return self.runtime.site().port(name, "grpc").bind

    def path(self, name: str, file: str) -> str:
        """Returns where a unit of this name finds one of its files."""
        return self.runtime.site().path(name, file)

    def replicas(self, cluster: str) -> list[str]:
        """Returns the addresses of a model cluster's replicas."""
        return [unit.address for unit in self.state.plan.with_role("model") if unit.name.startswith(f"{cluster}-")]

    def recorded(self, measure: Callable[[], BenchResult], rounds: int) -> BenchResult:
        """Measures; the result says when and where, how long it took, and in how many rounds."""
        started, began = datetime.now(UTC), time.monotonic()
        result = measure()
        ran = Ran(
            started=started.isoformat(timespec="seconds"),
            took_s=round(time.monotonic() - began, 1),
            rounds=rounds,
            machine=machine_versions(self.runtime.versions()),
        )
        return replace(result, ran=ran)

    @property
    def runtime(self) -> ProcessRuntime:
        """What starts and ends the lab's units."""
        return ProcessRuntime(self.lab.folder, self.state.security)


def cpu_seconds(pid: int) -> float:
    """Returns the processor time that a process has used so far."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def envoy_page(admin: str, path: str) -> Any:
    """Returns a JSON document of an Envoy's admin page."""
    with urllib.request.urlopen(f"http://{admin}{path}", timeout=_ADMIN_TIMEOUT_S) as answer:
        return json.load(answer)


def envoy_counter(admin: str, name: str) -> int:
    """Returns a counter or gauge of an Envoy."""
    return int(envoy_page(admin, f"/stats?format=json&filter=^{name}$")["stats"][0]["value"])


def xds_bytes(admin: str) -> int:
    """Returns the bytes on the wire that an Envoy has received from the control plane so far."""
    return envoy_counter(admin, "cluster.xds.upstream_cx_rx_bytes_total")


def allocated_mb(admin: str) -> float:
    """Returns the memory that an Envoy reports as allocated, MB."""
    return int(envoy_page(admin, "/memory")["allocated"]) / 1e6


@contextmanager
def open_environment(
    say: Callable[[str], None],
    spec: Path = DEFAULT_SPEC,
    *,
    topologies: Sequence[str] = (),
    security: str = PLAINTEXT,
    traces: float | None = None,
) -> Iterator[Environment]:
    """Brings a lab up for a bench, and takes it down afterwards; ``topologies`` and ``traces`` replace the spec's."""
    lab = Lab(f"bench-{secrets.token_hex(3)}")
    with _raised_priority():
        try:
            lab.up(spec=spec, topologies=topologies, security=security, traces=traces, runtime="process", say=say)
            yield Environment(lab, say)
        finally:
            lab.down()


@contextmanager
def open_small_environment(
    say: Callable[[str], None], spec: str, routes: str, *, security: str = PLAINTEXT, traces: float | None = None
) -> Iterator[Environment]:
    """Brings a lab up from the text of a spec and of a route table, and takes it down afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "routes.yaml").write_text(routes)
        file = Path(folder) / "lab.toml"
        file.write_text(f'routes = "routes.yaml"\n{spec}')
        with open_environment(say, file, security=security, traces=traces) as environment:
            yield environment


@contextmanager
def _raised_priority() -> Iterator[None]:
    """Runs the body, and the processes it starts, at a higher priority than the rest of the machine, if permitted.

    A process inherits the priority for all its threads only when it starts, so this comes before the lab.
    """
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, min(before, NICENESS))
    try:
        yield
    finally:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, before)
