"""Carries a plan out as a Docker Compose project."""

from __future__ import annotations

import hashlib
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any, TextIO

from docker.errors import APIError, NotFound

from lab.checkout import CHECKOUT
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

    from lab.plan import Plan
    from lab.roles import Unit

_AT_ONCE = 8
_STOP_TIMEOUT_S = 6
_SWEPT_WITHIN_S = 20.0
# What the engine says of a network, or of a volume, that a container has.
_IN_USE = (403, 409)
_STATES = {"running": "running", "paused": "paused", "restarting": "running"}


class ComposeRuntime:
    """Starts, stops and watches containers.

    Args:
        folder: the lab's own; ``compose.yaml`` in it is what runs.
        security: mode that units take their credentials by.
    """

    name = "compose"
    key_mode = 0o644  # for the image's user, whoever runs the engine; nobody else gets to the folder that holds it

    def __init__(self, folder: Path, security: str) -> None:
        self._folder = folder
        self._security = security
        # Labs of one name in two checkouts are two labs.
        self._project = Project(f"lab-{folder.name}-{hashlib.sha256(str(folder).encode()).hexdigest()[:4]}")
        self._file = folder / COMPOSE_FILE
        self._site: ComposeSite | None = None

    # -- standing up ---------------------------------------------------------------------------------------------

    def site(self, layout: Plan | None = None) -> ComposeSite:
        """Where units are; with a plan, where they are already."""
        if self._site is None:
            if layout is not None and not self._file.exists():
                raise LabError(f"{self._file}: is missing; run `lab down` to clean up, then `lab up`")
            hosts = document.hosts_of(self._file.read_text()) if layout is not None else {}
            self._site = ComposeSite(self._folder, self._subnet(), hosts, ports.ports_of(layout))
        return self._site

    def prepare(self, layout: Plan, say: Callable[[str], None]) -> None:
        """Writes the compose file, and builds the image if it is not here."""
        if any(unit.files for unit in layout.with_role(CONTROL_PLANE)):
            # What containers find to read any user of theirs may, and it has a password in it.
            raise SpecError("store: containers keep revisions in SQLite; leave it out, or give --runtime process")
        before = self._file.read_text() if self._file.exists() else ""
        with engine.one_line("image"):
            image_archive.load(self._project.docker, say)
        name, base = image.wanted(self._project.docker)
        if before:
            # Other code in a lab that runs would make all of it anew.
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
        with engine.one_line("image"):
            image.ensure(self._project.docker, name, base, self._file, say)

    def start(self, units: Sequence[Unit]) -> Iterator[tuple[str, Running]]:
        """Starts units, and yields each with what it runs as; whether it came up is seen by looking."""
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
        """Takes away what is left of a unit that has ended; its address is free then."""
        with engine.one_line("remove"), suppress(NotFound):
            self._project.container(running.container).remove(force=True, v=True)

    # -- looking -------------------------------------------------------------------------------------------------

    def states(self, running: Mapping[str, Running]) -> dict[str, str]:
        """Each unit: ``running``, ``paused`` or ``exited``."""
        known = {each["Id"]: _STATES.get(each["State"], "exited") for each in self._project.listed()}
        return {name: known.get(each.container, "exited") for name, each in running.items()}

    def memory_bytes(self, running: Mapping[str, Running]) -> dict[str, int]:
        """Memory of each unit that runs, page cache that can be dropped left out."""

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
        """The end of the unit's log, in one line; empty if it said nothing."""
        self._fetch_log(unit, self._project.containers())
        return log_of(self._folder, unit).last_words()

    def log(self, unit: str) -> Path:
        """What the unit has printed until now."""
        self._fetch_log(unit, self._project.containers())
        return log_of(self._folder, unit).path

    def fetch_logs(self, units: Iterable[Unit]) -> None:
        """Brings what units have written into the lab's folder."""
        # Asked for once: to the engine, a list of thirty containers costs more than a log.
        there = self._project.containers()

        def fetch(unit: Unit) -> None:
            self._fetch_log(unit.name, there)
            if unit.logs_requests and unit.name in there:
                home = log_of(self._folder, unit.name).path.parent
                with suppress(APIError):
                    copying.bring_back(self._project.container(there[unit.name]), f"{HOME}/{ACCESS_LOG}", home)

        self._each(list(units), fetch)

    def ground(self) -> dict[str, str]:
        """The engine, the image, and the interpreter in it."""
        name = document.image_of(self._file.read_text())
        with engine.one_line("docker"):
            version = self._project.docker.version()
        return {
            "runtime": self.name,
            "python": self._project.python(name),
            "docker": str(version["Version"]),
            "image": name,
        }

    # -- ending --------------------------------------------------------------------------------------------------

    def kill(self, running: Running) -> None:
        """Ends a unit at once and returns when it is gone; does nothing to one that does not run."""
        with engine.one_line("kill"):
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
        """Ends units, gently if they let it within so many seconds."""

        def end(running: Running) -> None:
            with suppress(NotFound):
                self._project.container(running.container).stop(timeout=round(within_s))

        with engine.one_line("stop"):
            self._each(list(units), end)

    def sweep(self) -> int:
        """Ends and removes whatever is left of the lab, known or not, and returns how many units there were."""
        units = 0
        give_up = time.monotonic() + _SWEPT_WITHIN_S
        with engine.one_line("down"):
            # Looks again until nothing is left: an engine that was told to make one makes it also if nobody waits, and
            # one that is being made is in no list yet, but holds its volumes and its network.
            while True:
                found = self._project.listed()
                units += sum(1 for each in found if not service_of(each["Labels"]).endswith("-pod"))
                self._each([each["Id"] for each in found], self._project.destroy)
                try:
                    self._project.remove_ground()
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
        """Freezes a unit: it stays connected and says nothing."""
        with engine.one_line("pause"):
            self._project.container(running.container).pause()

    def resume(self, running: Running) -> None:
        """Lets a frozen unit go on."""
        with engine.one_line("resume"):
            self._project.container(running.container).unpause()

    def partition(self, unit: Unit) -> None:
        """Cuts a unit, with the pod that it stands in, off from the lab's network and from this machine."""
        with engine.one_line(f"partition {unit.name}"):
            self._project.network.disconnect(self._project.owner_of_address(unit), force=True)

    def rejoin(self, unit: Unit) -> None:
        """Connects it again, at the address that it had."""
        host = document.hosts_of(self._file.read_text())[unit.pod]
        with engine.one_line(f"rejoin {unit.name}"):
            owner = self._project.owner_of_address(unit)
            service = service_of(owner.labels)
            try:
                self._project.network.connect(owner, ipv4_address=host, aliases=[service])
            except APIError as error:
                if error.status_code != 403:  # noqa: PLR2004 (what the engine says if it is connected)
                    raise

    # -- load ----------------------------------------------------------------------------------------------------

    def drive(
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
        with engine.one_line("driver"), relay:
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

    def end_drive(self, run: Path) -> None:
        """Ends a driver of that run at once which has outlived whoever started it; there need be none."""
        with engine.one_line("driver"), suppress(NotFound):
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
