"""Carries out a plan as a Docker Compose project."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from docker.errors import APIError, NotFound

from lab import CHECKOUT
from lab.errors import LabError, SpecError
from lab.load.plan import PLAN_FILE, read_plan
from lab.roles import ACCESS_LOG, CONTROL_PLANE, Plan, Unit
from lab.runtime import ports
from lab.runtime._runtime import Runtime
from lab.runtime.cancellation import CancelToken
from lab.runtime.compose import COMPOSE_FILE, copying, document, engine, image, subnets
from lab.runtime.compose.driver_containers import DriverContainers, driver_services, relayed
from lab.runtime.compose.project import Project, service_of
from lab.runtime.compose.site import ComposeSite
from lab.runtime.pod_site import HOME
from lab.runtime.process import memory_watch
from lab.runtime.state import Running
from lab.transport.security import MTLS
from lab.waiting import POLL_INTERVAL

if TYPE_CHECKING:
    from lab.client import Endpoints

_AT_ONCE = 8
_STOP_TIMEOUT_S = 6
_SWEPT_WITHIN_S = 20.0
# Status codes of the engine for a network or a volume that a container still uses.
_IN_USE = (403, 409)
_STATES = {"running": "running", "paused": "paused", "restarting": "running"}


class ComposeRuntime(Runtime):
    """Starts, stops and watches containers; ``compose.yaml`` in the lab's folder describes what runs."""

    name = "compose"
    key_mode = 0o644  # for the image's user; the authority's folder, which holds the keys, is closed to other users

    def __init__(self, folder: Path, security: str) -> None:
        super().__init__(folder, security)
        # With a hash of the folder, as two checkouts may have labs of the same name.
        self._project = Project(f"lab-{folder.name}-{hashlib.sha256(str(folder).encode()).hexdigest()[:4]}")
        self._file = folder / COMPOSE_FILE
        self._site: ComposeSite | None = None

    # -- standing up ---------------------------------------------------------------------------------------------

    def site(self, layout: Plan | None = None) -> ComposeSite:
        if self._site is None:
            if layout is not None and not self._file.exists():
                raise LabError(f"{self._file}: is missing; run `lab down` to clean up, then `lab up`")
            hosts = document.hosts_of(self._file.read_text()) if layout is not None else {}
            self._site = ComposeSite(self._folder, ports.ports_of(layout), self._subnet(), hosts)
        return self._site

    def shares_clock(self) -> bool:
        with engine.errors_in_one_line("docker"):
            return engine.is_of_this_kernel(self._project.docker)

    def prepare(self, layout: Plan, say: Callable[[str], None]) -> None:
        """Writes the compose file and the units' files, and builds the image if it is not here."""
        if any("store" in unit.files for unit in layout.with_role(CONTROL_PLANE)):
            # Any user of a container can read its files, and this one has a password in it.
            raise SpecError("store: containers keep revisions in SQLite; leave it out, or give --runtime process")
        before = self._file.read_text() if self._file.exists() else ""
        with engine.errors_in_one_line("image"):
            image.load(self._project.docker, say)
        name, base = image.wanted(self._project.docker)
        if before:
            # The same image as before: with another one, Compose would recreate every container.
            name = document.image_of(before)
        text = document.render(
            layout,
            document.Setting(
                project=self._project.name,
                image=name,
                base_image=base,
                subnet=self._subnet(),
                hosts=self.site(layout).hosts,
                security=self._security,
                identities=str(self._identities.of("")) if self._security == MTLS else "",
                context=str(CHECKOUT),
                title=f"lab {self._folder.name}",
                how_made="Written by `lab up`, and again whenever the lab is scaled.",
                file=str(self._file),
            ),
        )
        document.write_files(layout, self._file.parent)
        if text != before:
            scratch = self._file.with_suffix(".new")
            scratch.write_text(text)
            scratch.replace(self._file)
        with engine.errors_in_one_line("image"):
            image.ensure(self._project.docker, document.built_images_of(text), base, self._file, say)

    def start(self, units: Sequence[Unit]) -> Iterator[tuple[str, Running]]:
        if self._security == MTLS:
            self._identities.provide(units)
        there = self._project.containers()
        wanted = [unit.name for unit in units]
        if all(name in there for name in wanted):
            self._each(wanted, lambda name: engine.start(self._project.container(there[name])))
        else:
            engine.compose([*self._compose, "up", "--detach", "--no-build", "--quiet-pull", *wanted], {})
            there = self._project.containers()
        for name in wanted:
            yield name, Running(container=there[name])

    def watch(self) -> None:
        memory_watch.begin(self._folder, self._project.name)

    def over_ceiling(self, unit: str) -> list[str]:
        return memory_watch.events(self._home(unit))

    def remove(self, running: Running) -> None:
        with engine.errors_in_one_line("remove"), suppress(NotFound):
            self._project.container(running.container).remove(force=True, v=True)

    # -- looking -------------------------------------------------------------------------------------------------

    def states(self, running: Mapping[str, Running]) -> dict[str, str]:
        known = {each["Id"]: _STATES.get(each["State"], "exited") for each in self._project.listed()}
        return {name: known.get(each.container, "exited") for name, each in running.items()}

    def memory_bytes(self, running: Mapping[str, Running]) -> dict[str, int]:
        """Memory of each running unit, without page cache that the kernel can drop."""

        def look(name: str) -> int:
            try:
                said = self._project.docker.api.stats(running[name].container, stream=False, one_shot=True)
            except APIError:
                return 0
            stats = said["memory_stats"]
            cache = stats.get("stats", {})
            inactive = cache.get("total_inactive_file", cache.get("inactive_file", 0))
            return int(stats.get("usage", 0)) - int(inactive)

        return dict(zip(running, self._each(running, look), strict=True))

    def log(self, unit: str) -> Path:
        self._fetch_log(unit, self._project.containers())
        return super().log(unit)

    def fetch_logs(self, units: Iterable[Unit]) -> None:
        # Listed once: for the engine, a list of thirty containers is more work than a log.
        there = self._project.containers()

        def fetch(unit: Unit) -> None:
            self._fetch_log(unit.name, there)
            if unit.logs_requests:
                self._bring_back(unit, ACCESS_LOG, there)

        self._each(list(units), fetch)

    def fetch_file(self, unit: Unit, name: str) -> None:
        self._bring_back(unit, name, self._project.containers())

    def _bring_back(self, unit: Unit, file: str, there: Mapping[str, str]) -> None:
        if unit.name in there:
            with suppress(APIError):
                container = self._project.container(there[unit.name])
                copying.bring_back(container, f"{HOME}/{file}", super().log(unit.name).parent)

    def versions(self) -> dict[str, str]:
        """Versions of the engine and of Python, and the name of the image."""
        name = document.image_of(self._file.read_text())
        with engine.errors_in_one_line("docker"):
            version = self._project.docker.version()
        return {
            "runtime": self.name,
            "python": self._project.python(name),
            "docker": str(version["Version"]),
            "image": name,
        }

    # -- ending --------------------------------------------------------------------------------------------------

    def kill(self, running: Running) -> None:
        with engine.errors_in_one_line("kill"):
            container = self._project.container(running.container)
            try:
                container.kill()
            except NotFound:
                return
            except APIError as error:
                if error.status_code != 409:  # noqa: PLR2004 (HTTP's conflict: it does not run)
                    raise
            container.wait(timeout=_STOP_TIMEOUT_S)

    def stop(self, units: Iterable[Running], *, within_s: float = _STOP_TIMEOUT_S) -> None:

        def end(running: Running) -> None:
            with suppress(NotFound):
                self._project.container(running.container).stop(timeout=round(within_s))

        with engine.errors_in_one_line("stop"):
            self._each(list(units), end)

    def sweep(self) -> int:
        """Removes every container, network and volume of the lab; returns how many units there were."""
        units = 0
        give_up = time.monotonic() + _SWEPT_WITHIN_S
        memory_watch.end(self._folder)
        with engine.errors_in_one_line("down"):
            # Repeats until nothing is left: the engine completes requests whose client is gone, and a container that
            # is being created is in no list yet, but holds its volumes and its network.
            while True:
                found = self._project.listed()
                units += sum(1 for each in found if not service_of(each["Labels"]).endswith("-pod"))
                self._each([each["Id"] for each in found], self._project.destroy)
                try:
                    self._project.remove_network_and_volumes()
                except APIError as error:
                    if error.status_code not in _IN_USE or time.monotonic() >= give_up:
                        raise
                    time.sleep(POLL_INTERVAL.total_seconds())
                else:
                    if not self._project.listed():
                        break
        if self._file.exists():  # to remove none would wait for a disk that does not answer
            self._file.unlink()
        ports.release(self._folder)
        subnets.release(self._folder)
        return units

    # -- faults --------------------------------------------------------------------------------------------------

    def pause(self, running: Running) -> None:
        with engine.errors_in_one_line("pause"):
            self._project.container(running.container).pause()

    def resume(self, running: Running) -> None:
        with engine.errors_in_one_line("resume"):
            self._project.container(running.container).unpause()

    def partition(self, unit: Unit) -> None:
        with engine.errors_in_one_line(f"partition {unit.name}"):
            self._project.network.disconnect(self._project.owner_of_address(unit), force=True)

    def rejoin(self, unit: Unit) -> None:
        host = document.hosts_of(self._file.read_text())[unit.pod]
        with engine.errors_in_one_line(f"rejoin {unit.name}"):
            owner = self._project.owner_of_address(unit)
            service = service_of(owner.labels)
            try:
                self._project.network.connect(owner, ipv4_address=host, aliases=[service])
            except APIError as error:
                if error.status_code != 403:  # noqa: PLR2004 (the engine's status if it is connected)
                    raise

    # -- load ----------------------------------------------------------------------------------------------------

    def run_driver(
        self,
        run: Path,
        caller: str,
        on_line: Callable[[str], None],
        ui_port: int | None = None,
        cancel_token: CancelToken | None = None,
        errors: TextIO | None = None,
    ) -> int:
        pod = self._project.containers(f"{caller}-pod")
        if not pod:
            raise LabError(f"{caller} has no pod that runs: see `lab status`")
        file = self._file.read_text()
        made_from, host = document.image_of(file), document.hosts_of(file)[caller]
        relay = nullcontext() if ui_port is None else relayed(self._project, run.name, made_from, host, ui_port)
        drivers = DriverContainers(
            project=self._project,
            run=run,
            image=made_from,
            security=self._security,
            identity=self._identities.of(caller),
            environment=self._driver_environment(caller),
            errors=errors or sys.stderr,
            cancel_token=cancel_token or CancelToken(),
        )
        with engine.errors_in_one_line("driver"), relay:
            count = read_plan(run / PLAN_FILE).drivers
            return drivers.run_one(on_line, pod[f"{caller}-pod"]) if count == 1 else drivers.run_several(on_line, count)

    def endpoints_of_drivers(self, caller: str, endpoints: Endpoints) -> Endpoints:
        """With the pod's own address for its loopback, as each driver has its own network."""
        return endpoints.from_another_pod(document.hosts_of(self._file.read_text())[caller])

    def kill_driver(self, run: Path) -> None:
        with engine.errors_in_one_line("driver"):
            drivers = []
            for service in driver_services(read_plan(run / PLAN_FILE).drivers):
                with suppress(NotFound):
                    drivers.append(self._project.docker.containers.get(self._project.temporary_name(service, run.name)))
            # All freeze before the first one ends, which would make the others end well with what they have sent.
            for driver in drivers:
                with suppress(APIError):  # it has ended, or is frozen
                    driver.pause()
            for driver in drivers:
                with suppress(NotFound):
                    driver.remove(force=True, v=True)

    # -- within --------------------------------------------------------------------------------------------------

    @property
    def _compose(self) -> list[str]:
        return ["--file", str(self._file), "--profile", "all"]

    def _subnet(self) -> IPv4Network:
        return subnets.reserve(self._folder, engine.networks(self._project.docker))

    def _fetch_log(self, unit: str, there: Mapping[str, str]) -> None:
        if unit in there:
            with suppress(APIError):
                self._home(unit).mkdir(parents=True, exist_ok=True)
                (self._home(unit) / "log").write_bytes(self._project.container(there[unit]).logs())

    def _each(self, items: Collection[Any], work: Callable[[Any], Any]) -> list[Any]:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(work, items))
