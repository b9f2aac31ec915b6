"""Carries out a plan as a Docker Compose project."""

from __future__ import annotations

import hashlib
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any, TextIO

from docker.errors import APIError, NotFound

from lab import CHECKOUT
from lab.errors import LabError, SpecError
from lab.roles import ACCESS_LOG, CONTROL_PLANE
from lab.runtime import ports
from lab.runtime.cancellation import CancelToken
from lab.runtime.compose import COMPOSE_FILE, copying, document, engine, image, image_archive, subnets
from lab.runtime.compose.driver import run_driver
from lab.runtime.compose.project import Project, service_of
from lab.runtime.compose.relay import published
from lab.runtime.compose.site import HOME, ComposeSite
from lab.runtime.identities import Identities
from lab.runtime.logs import log_of
from lab.runtime.state import Running
from lab.transport.security import MTLS
from lab.waiting import POLL_INTERVAL

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from ipaddress import IPv4Network
    from pathlib import Path

    from lab.roles import Plan, Unit

_AT_ONCE = 8
_STOP_TIMEOUT_S = 6
_SWEPT_WITHIN_S = 20.0
# Status codes of the engine for a network or a volume that a container still uses.
_IN_USE = (403, 409)
_STATES = {"running": "running", "paused": "paused", "restarting": "running"}


class ComposeRuntime:
    """Starts, stops and watches containers.

    Args:
        folder: the lab's own; ``compose.yaml`` in it describes what runs.
        security: security mode of the units, ``mtls`` or ``plaintext``.
    """

    name = "compose"
    key_mode = 0o644  # for the image's user; the authority's folder, which holds the keys, is closed to other users

    def __init__(self, folder: Path, security: str) -> None:
        self._folder = folder
        self._security = security
        # With a hash of the folder, as two checkouts may have labs of the same name.
        self._project = Project(f"lab-{folder.name}-{hashlib.sha256(str(folder).encode()).hexdigest()[:4]}")
        self._file = folder / COMPOSE_FILE
        self._site: ComposeSite | None = None

    # -- standing up ---------------------------------------------------------------------------------------------

    def site(self, layout: Plan | None = None) -> ComposeSite:
        """The site of a new lab, or of one that is planned already."""
        if self._site is None:
            if layout is not None and not self._file.exists():
                raise LabError(f"{self._file}: is missing; run `lab down` to clean up, then `lab up`")
            hosts = document.hosts_of(self._file.read_text()) if layout is not None else {}
            self._site = ComposeSite(self._folder, self._subnet(), hosts, ports.ports_of(layout))
        return self._site

    def prepare(self, layout: Plan, say: Callable[[str], None]) -> None:
        """Writes the compose file and the units' files, and builds the image if it is not here."""
        if any(unit.files for unit in layout.with_role(CONTROL_PLANE)):
            # Any user of a container can read its files, and this one has a password in it.
            raise SpecError("store: containers keep revisions in SQLite; leave it out, or give --runtime process")
        before = self._file.read_text() if self._file.exists() else ""
        with engine.errors_in_one_line("image"):
            image_archive.load(self._project.docker, say)
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
            image.ensure(self._project.docker, name, base, self._file, say)

    def start(self, units: Sequence[Unit]) -> Iterator[tuple[str, Running]]:
        """Starts units; yields each with its container, without waiting until it is ready."""
        if self._security == MTLS:
            self._identities.provide(units)
        there = self._project.containers()
        wanted = [unit.name for unit in units]
        if all(name in there for name in wanted):
            self._each(wanted, lambda name: self._project.container(there[name]).start())
        else:
            engine.compose([*self._compose, "up", "--detach", "--no-build", "--quiet-pull", *wanted], {})
            there = self._project.containers()
        for name in wanted:
            yield name, Running(container=there[name])

    def remove(self, running: Running) -> None:
        """Removes the container of a unit that has ended, and frees its address."""
        with engine.errors_in_one_line("remove"), suppress(NotFound):
            self._project.container(running.container).remove(force=True, v=True)

    # -- looking -------------------------------------------------------------------------------------------------

    def states(self, running: Mapping[str, Running]) -> dict[str, str]:
        """The state of each unit: ``running``, ``paused`` or ``exited``."""
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

    def last_words(self, unit: str) -> str:
        """The end of the unit's log, in one line; empty if it has printed nothing."""
        self._fetch_log(unit, self._project.containers())
        return log_of(self._folder, unit).last_words()

    def log(self, unit: str) -> Path:
        """The file with what the unit has printed until now."""
        self._fetch_log(unit, self._project.containers())
        return log_of(self._folder, unit).path

    def fetch_logs(self, units: Iterable[Unit]) -> None:
        """Copies logs and access logs of units into the lab's folder."""
        # Listed once: for the engine, a list of thirty containers is more work than a log.
        there = self._project.containers()

        def fetch(unit: Unit) -> None:
            self._fetch_log(unit.name, there)
            if unit.logs_requests and unit.name in there:
                home = log_of(self._folder, unit.name).path.parent
                with suppress(APIError):
                    copying.bring_back(self._project.container(there[unit.name]), f"{HOME}/{ACCESS_LOG}", home)

        self._each(list(units), fetch)

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
        """Kills a unit and returns when it is gone; does nothing if it does not run."""
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
        """Asks units to end, and kills those that have not ended within ``within_s`` seconds."""

        def end(running: Running) -> None:
            with suppress(NotFound):
                self._project.container(running.container).stop(timeout=round(within_s))

        with engine.errors_in_one_line("stop"):
            self._each(list(units), end)

    def sweep(self) -> int:
        """Removes every container, network and volume of the lab; returns how many units there were."""
        units = 0
        give_up = time.monotonic() + _SWEPT_WITHIN_S
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
        self._file.unlink(missing_ok=True)
        ports.release(self._folder)
        subnets.release(self._folder)
        return units

    # -- faults --------------------------------------------------------------------------------------------------

    def pause(self, running: Running) -> None:
        """Freezes a unit: its connections stay open, but it answers nothing."""
        with engine.errors_in_one_line("pause"):
            self._project.container(running.container).pause()

    def resume(self, running: Running) -> None:
        """Lets a frozen unit continue."""
        with engine.errors_in_one_line("resume"):
            self._project.container(running.container).unpause()

    def partition(self, unit: Unit) -> None:
        """Cuts a unit, with its whole pod, off from the lab's network and from this machine."""
        with engine.errors_in_one_line(f"partition {unit.name}"):
            self._project.network.disconnect(self._project.owner_of_address(unit), force=True)

    def rejoin(self, unit: Unit) -> None:
        """Reconnects a unit that was cut off, at the address that it had."""
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
        """Runs the load driver on the plan in a run's folder, in the caller's pod, and returns its exit status."""
        pod = self._project.containers(f"{caller}-pod")
        if not pod:
            raise LabError(f"{caller} has no pod that runs: see `lab status`")
        file = self._file.read_text()
        relay = nullcontext() if ui_port is None else self._relay(ui_port, document.hosts_of(file)[caller], run.name)
        with engine.errors_in_one_line("driver"), relay:
            return run_driver(
                self._project.docker,
                run,
                on_line,
                image=document.image_of(file),
                pod=pod[f"{caller}-pod"],
                name=self._name_of_driver(run),
                labels=self._project.labels("driver"),
                security=self._security,
                identity=self._identities.of(caller),
                errors=errors or sys.stderr,
                cancel_token=cancel_token or CancelToken(),
            )

    def kill_driver(self, run: Path) -> None:
        """Kills a driver of that run that has outlived the command that started it; there need be none."""
        with engine.errors_in_one_line("driver"), suppress(NotFound):
            self._project.docker.containers.get(self._name_of_driver(run)).remove(force=True, v=True)

    def _name_of_driver(self, run: Path) -> str:
        return f"{self._project.name}-driver-{run.name.lower()}"

    def _relay(self, port: int, host: str, run: str) -> AbstractContextManager[None]:
        return published(
            self._project.docker,
            port,
            host,
            image=document.image_of(self._file.read_text()),
            network=self._project.network_name,
            name=f"{self._project.name}-relay-{run.lower()}",
            labels=self._project.labels("relay"),
        )

    # -- within --------------------------------------------------------------------------------------------------

    @property
    def _identities(self) -> Identities:
        return Identities(self._folder)

    @property
    def _compose(self) -> list[str]:
        return ["--file", str(self._file), "--profile", "all"]

    def _subnet(self) -> IPv4Network:
        return subnets.reserve(self._folder, engine.networks(self._project.docker))

    def _fetch_log(self, unit: str, there: Mapping[str, str]) -> None:
        if unit in there:
            with suppress(APIError):
                log_of(self._folder, unit).replace(self._project.container(there[unit]).logs())

    def _each(self, items: Collection[Any], work: Callable[[Any], Any]) -> list[Any]:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(work, items))
