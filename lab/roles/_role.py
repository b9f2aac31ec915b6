"""The value that describes a role, and the layout that it adds units to."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from lab.client import DirectTarget, Endpoints
from lab.links import ROLE as LINK
from lab.pickers import DEFAULT_PICKER, GRPC, PICKERS, Cannot
from lab.reading import MAX_SMALL_BYTES, read_text
from lab.registry import plugins
from lab.roles._follows import Follows
from lab.roles._links import port_from, zone_of_caller
from lab.roles._probe import Probe
from lab.roles._unit import ACCESS_LOG, CALLER, COLLECTOR, CONTROL_PLANE, MODEL, Port, Site, Unit
from lab.routing.shards import clusters_of
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    import grpc

    from lab.bounds import Range
    from lab.routing.document import RouteTable
    from lab.spec import LabSpec

T = TypeVar("T")


class Placement(enum.Enum):
    """Where the units of a role run."""

    ALONE = "one unit, which all callers share"
    REPLICATED = "several units, which all callers share"
    BESIDE_CALLER = "one unit beside each caller, in its pod"


class Setting(NamedTuple):
    """A setting of a role that a spec names in ``extra_roles``: its default, and the values that it may have."""

    default: float
    within: Range


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program that units run and that the lab's packages do not include.

    Attributes:
        name: of its executable.
        installed: returns whether this machine has it.
        remedy: what to do if it has not.
    """

    name: str
    installed: Callable[[], bool]
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One role: how its units are started, found, probed, logged and accounted for.

    Attributes:
        name: e.g. ``central-envoy``; also the role in its units' certificates.
        title: what its units are called in messages and in the compose file, e.g. ``Gateways``.
        placement: where its units run by default.
        units: lays out its units. Called with the layout so far and an empty caller for units that all callers share,
            and then with each caller for units beside that caller.
        probe: when a unit counts as ready.
        follows: what a unit receives from the control plane, which admits it to nothing else.
        calls_models: whether models admit it.
        marks_path: whether its units add themselves to the header ``via`` of each request, see
            :func:`lab.routing.headers.via`.
        passes_headers: whether they pass on the headers of a request that they do not know.
        adds_headers: names of headers that they may add to a request for a model; None if that is not known.
        takes_plaintext_beside: whether it accepts plaintext from its own pod where connections are secured.
        read_log_line: parses a line of its access log; ``request_id`` is among the fields.
        port: number of its port in a container; units of one pod have different numbers.
        image: image of its containers; the lab's own if empty.
        stage: stage of ``compose/Dockerfile`` that is its image, on top of the lab's own; none if empty.
        cpus: limit of processors of a container.
        memory_mb: memory limit of a container, MB.
        decides: makes, from a channel to a unit, a use case and a caller that may use it, a function that returns by
            which revision the unit decides, or raises grpc.RpcError; None for a role that cannot say.
        copies_dropped: returns how many shadow copies a unit has dropped at its bound since it was started, None if it
            does not answer; None for a role that sends none.
        figures: asks a unit for figures of its own, which `lab status --json` shows, and returns None if it does not
            answer; None for a role that has none.
        checked_by: checkers that must give a verdict on runs whose requests need the role.
        accounted_as: part of the lab to which reports charge its CPU time; the role's name if empty.
        settings: of a role that no topology needs, and that a lab has if its spec names it in ``extra_roles``: what the
            spec may set, by name. None for all other roles.
        fronts_pages: whether it asks callers for pages in users' names. In a lab with such a role callers give pages to
            it, to the operator, and to callers of whose pages theirs are parts.
        drivers_share: variables of its units' environment that load drivers get as well.
        program: that its units run besides the lab's own, for ``lab doctor``; None if they run none.
    """

    name: str
    title: str
    placement: Placement
    units: Callable[[Layout, str], Iterable[Unit]]
    probe: Probe = Probe.GRPC_HEALTH
    follows: Follows = Follows.NOTHING
    calls_models: bool = False
    marks_path: bool = False
    passes_headers: bool = True
    adds_headers: frozenset[str] | None = None
    takes_plaintext_beside: bool = False
    read_log_line: Callable[[str], Mapping[str, Any]] = json.loads
    port: int = 9000
    image: str = ""
    stage: str = ""
    cpus: float = 1
    memory_mb: int = 256
    accounted_as: str = ""
    settings: Mapping[str, Setting] | None = None
    fronts_pages: bool = False
    drivers_share: tuple[str, ...] = ()
    checked_by: tuple[str, ...] = ()
    decides: Callable[[grpc.Channel, str, str], Callable[[], int]] | None = None
    copies_dropped: Callable[[Unit], int | None] | None = None
    figures: Callable[[Unit], Mapping[str, Any] | None] | None = None
    program: Program | None = None

    def image_in(self, own: str) -> str:
        """The image of its containers in a lab whose own image is ``own``."""
        return self.image or "-".join(filter(None, (own, self.stage)))

    @property
    def part(self) -> str:
        """Part of the lab to which reports charge its CPU time."""
        return self.accounted_as or self.name


@dataclass(frozen=True, slots=True)
class Layout:
    """A lab that is being laid out.

    Attributes:
        spec: its spec.
        table: the route table that is published first. It names the clusters, and gives topologies that follow no rules
            their hard-coded addresses.
        site: addresses and paths.
        roles: all roles of this lab, in the order in which their units start.
        units: laid out so far: units that all callers share, then units beside the present caller.
    """

    spec: LabSpec
    table: RouteTable
    site: Site
    roles: tuple[Role, ...]
    units: tuple[Unit, ...] = ()

    @property
    def secured(self) -> bool:
        """Whether connections are secured."""
        return self.spec.security.mode == "mtls"

    @property
    def apis(self) -> dict[str, str]:
        """Each use case's API."""
        return {name: use_case["api"] for name, use_case in self.table.document["use_cases"].items()}

    @property
    def control_planes(self) -> list[str]:
        """Names of the control planes: one, or several that serve the revisions of one store."""
        return [CONTROL_PLANE, *(f"{CONTROL_PLANE}-{number}" for number in range(2, self.spec.control_planes + 1))]

    def setting(self, role: str, name: str) -> float:
        """What the spec sets for one of this lab's roles, see :attr:`Role.settings`; else its default."""
        settings = next(each.settings for each in self.roles if each.name == role) or {}
        return self.spec.extra_roles.get(role, {}).get(name, settings[name].default)

    def control_plane(self, unit: str) -> str:
        """Address of the control plane for a unit; of several all, comma-separated, in the unit's own order."""
        return ",".join(self.site.port(name, "grpc").inside for name in _in_turn(self.control_planes, unit))

    def names_of(self, test: Callable[[Role], bool]) -> str:
        """Names of this lab's roles that pass a test, comma-separated, as services' options take them."""
        return ",".join(role.name for role in self.roles if test(role))

    def request_log(self, unit: str) -> dict[str, str]:
        """The option for an access log, for units that write one only if the spec asks for it."""
        return {"access_log": self.site.path(unit, ACCESS_LOG)} if self.spec.log_requests else {}

    @property
    def picker_option(self) -> tuple[str, ...]:
        """The option that names the lab's picker; empty for the default one."""
        return () if self.spec.picker == DEFAULT_PICKER else ("--picker", self.spec.picker)

    def picker(self, unit: str) -> tuple[dict[str, str], list[str]]:
        """Files and options by which a unit finds the lab's picker; none for the default one."""
        if not self.picker_option:
            return {}, []
        files, options = self.plugin_files(unit)
        return files, [*self.picker_option, *options]

    def plugin_files(self, unit: str) -> tuple[dict[str, str], list[str]]:
        """The plugin files that a unit gets, by name, and the options that name them."""
        files = {
            f"plugin-{number}-{plugin.name}": read_text(plugin, MAX_SMALL_BYTES)
            for number, plugin in enumerate(plugins(), start=1)
        }
        return files, [word for file in files for word in ("--plugin", self.site.path(unit, file))]

    def endpoints(self, caller: str, seen: Callable[[Port], str]) -> Endpoints:
        """The addresses of all units that a caller may connect to.

        Args:
            caller: its name; of several control planes each caller gets its own order.
            seen: picks the address of a port, e.g. that for programs on this machine.
        """
        by_role: dict[str, list[str]] = {}
        zone = zone_of_caller(self.spec, caller)
        for unit in self.units:
            if unit.role not in (CALLER, MODEL, COLLECTOR, LINK):
                by_role.setdefault(unit.role, []).append(seen(port_from(self.spec, self.site, zone, unit)))
        if CONTROL_PLANE in by_role:
            by_role[CONTROL_PLANE] = _in_turn(by_role[CONTROL_PLANE], caller)
        return Endpoints({role: _unique(addresses) for role, addresses in by_role.items()}, self.hard_coded(seen, zone))

    def hard_coded(self, seen: Callable[[Port], str], zone: str = "") -> dict[str, DirectTarget]:
        """Where each use case's model is, by the first route table; empty if all topologies follow the rules.

        Args:
            seen: picks the address of a port.
            zone: from which models in other zones are reached through links; empty for none.
        """
        if all(TOPOLOGIES[name].capabilities.follows_rules for name in self.spec.topologies):
            return {}
        picks = PICKERS[self.spec.picker].at(GRPC)
        balancing = {} if self.spec.picker == DEFAULT_PICKER or isinstance(picks, Cannot) else picks
        targets = {}
        for name, use_case in self.table.document["use_cases"].items():
            model, _, version = use_case["default"].partition("@")
            runs = self.table.document["models"][model]["versions"][version]
            shard, cluster = next(iter(clusters_of(runs["cluster"]).items()))
            replicas = _unique(
                seen(port_from(self.spec, self.site, zone, unit)) for unit in self.units if unit.cluster == cluster
            )
            targets[name] = DirectTarget(model, version, replicas, cluster, runs.get("config", {}), balancing, shard)
        return targets


def rotated(entries: Sequence[T], first: int) -> list[T]:
    """The entries in their order, beginning with another one."""
    return [*entries[first:], *entries[:first]]


def _unique(addresses: Iterable[str]) -> tuple[str, ...]:
    """The addresses in their order, each once: several units may share one name."""
    return tuple(dict.fromkeys(addresses))


def _in_turn(entries: Sequence[T], unit: str) -> list[T]:
    """The entries rotated by the unit's name, so that not all units go to the first."""
    return rotated(entries, sum(unit.encode()) % len(entries))


def python(module: str, **options: Any) -> tuple[str, ...]:
    """The command that runs a module with these options."""
    argv = ["python", "-m", module]
    for option, value in options.items():
        argv += [f"--{option.replace('_', '-')}", str(value)]
    return tuple(argv)
