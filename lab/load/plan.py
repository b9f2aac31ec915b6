"""The load plan: a frozen value, and its JSON form for a driver in another process or container.

What a plan gives a request beside its draws follows from its sequence number n alone, by the first eight bytes of the
BLAKE2b digest of a text, taken as a big-endian number:

- Request n is sent as a stream, if its API has a streaming method: the number of ``stream:{seed}:{n}``, modulo 100, is
  below ``streams``.

Every ``edge_every``-th request, those whose n + 1 is a multiple of it, is an edge case: number n // ``edge_every``
modulo the number of ``edge_cases``. It has that use case, and that user and those fields of the context in place of the
drawn ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import orjson

from lab.bounds import COUNT, PERCENT, PORT, SECONDS, SEED, USERS, Range, require_number, require_whole
from lab.client import Endpoints
from lab.errors import InputError, RunError
from lab.load.arrivals import Schedule, Trace, arrivals_from_document, arrivals_to_document, schedule
from lab.load.trace import MAX_PAYLOAD_BYTES
from lab.reading import read_json, where
from lab.topologies import TOPOLOGIES
from models.apis import APIS
from models.context import OVERRIDE, TRAFFIC_ORIGIN

if TYPE_CHECKING:
    from lab.load.arrivals import ArrivalPlan

PLAN_FILE = "plan.json"
"""Name of a plan in the folder of its run."""
UI_HOST_VARIABLE = "LAB_UI_HOST"
"""Environment variable: the address that an engine's web UI listens on, if it is not 127.0.0.1."""

DRAWN_FIELDS = ("device", "country", "segment", "surface", "tenant")
"""Context fields that a plan may give choices for; empty in every record otherwise."""

CHOSEN_FIELDS = (*DRAWN_FIELDS, TRAFFIC_ORIGIN, OVERRIDE)
"""All fields that a plan may give choices for."""

MAX_PROCESSES = 64

_WHOLE = {
    "payload_bytes": Range(0, MAX_PAYLOAD_BYTES),
    "seed": SEED,
    "users": USERS,
    "tear_every": COUNT,
    "drivers": Range(1, MAX_PROCESSES),
    "streams": PERCENT,
    "edge_every": COUNT,
}

_ALL = 100


def _check(holds: bool, name: str, problem: str) -> None:  # noqa: FBT001 (a condition, not a flag)
    if not holds:
        raise InputError(f"{name}: {problem}")


@dataclass(frozen=True, slots=True)
class UseCase:
    """A use case and its API.

    Attributes:
        name: e.g. ``ContinueWatchingRanking``.
        api: the API of its requests, e.g. ``ranking.v1``.
    """

    name: str
    api: str


@dataclass(frozen=True, slots=True)
class EdgeCase:
    """A request that a uniform draw would hardly ever make: a user in an edge bucket, values that look alike.

    Attributes:
        use_case: one of the plan's.
        context: user id and context fields in place of the drawn ones.
    """

    use_case: str
    context: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePlan:
    """An engine's part of a plan: which engine drives the run, and what its requests can be judged by.

    Attributes:
        name: of the engine, see :mod:`lab.load.engines`.
        as_drawn: whether it sends each request as the plan draws it, streams and edge cases included, at its time, and
            can be shared by processes, drivers and callers.
        decides: fields of a request that the engine decides instead of the draw: ``use_case``, ``payload_bytes``,
            ``user_id`` or a field of the context. Its users take turns, unless it decides the user.
        closed_loop: whether users wait for an answer before their next request. Such a run slows down with the system
            that it measures.
        ui_port: port on 127.0.0.1 of a web UI, where people decide when requests are sent; None without one.
        workers: number of processes among which users are divided; 0 if they run in the driver.
        paced_by: what decides when requests are sent, in place of the plan, in words; empty if nothing does. Such an
            engine can drive several callers at the same time.
        checked_by: checkers that must give a verdict on the run, and why.
        settings: the engine's own, as JSON values.
        files: that the engine needs, by name in the run's folder, which gets copies. In the plan's JSON form, a bare
            name means a file beside the plan.
    """

    name: str
    as_drawn: bool = False
    decides: tuple[str, ...] = ()
    closed_loop: bool = False
    ui_port: int | None = None
    workers: int = 0
    paced_by: str = ""
    checked_by: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(isinstance(self.name, str), "engine", f"{self.name!r} is not a text; write a name")
        require_whole("workers", self.workers, Range(0, MAX_PROCESSES))
        if self.ui_port is not None:
            require_whole("ui_port", self.ui_port, PORT)
        for name in self.decides:
            known = ("use_case", "payload_bytes", "user_id", *CHOSEN_FIELDS)
            _check(name in known, "decides", f"no field {name!r}; known: {', '.join(known)}")
        for name in self.files:
            _check(
                Path(name).name == name, "files", f"{name!r} is not a bare name; it names a file in the run's folder"
            )

    @property
    def by_hand(self) -> bool:
        """Whether people control it through a web UI."""
        return self.ui_port is not None

    @property
    def scheduled(self) -> bool:
        """Whether requests and their times are fixed in advance; not so if people or users decide when to send."""
        return not (self.by_hand or self.closed_loop or self.paced_by)

    @property
    def in_words(self) -> str:
        """How its requests are paced, e.g. ``closed loop: users wait for answers``."""
        by_hand = "steered by hand" if self.by_hand else ""
        closed = "closed loop: users wait for answers" if self.closed_loop else ""
        return ", ".join(part for part in (by_hand, closed, self.paced_by) if part) or "as planned"

    def to_document(self) -> dict[str, Any]:
        """As a JSON object; ``scheduled`` is for readers without this class."""
        own = {each.name: getattr(self, each.name) for each in fields(self)}
        return {**own, "scheduled": self.scheduled, "files": {name: str(path) for name, path in self.files.items()}}

    @classmethod
    def from_document(cls, document: Mapping[str, Any], beside: Path) -> Self:
        """The inverse of :meth:`to_document`; ``beside`` is the folder of the plan."""
        own = {name: value for name, value in document.items() if name != "scheduled"}
        files = {name: beside / path for name, path in document["files"].items()}
        return cls(**{**own, "decides": tuple(document["decides"]), "files": files})


OPEN_LOOP = EnginePlan(name="open-loop", as_drawn=True)
"""The part of the engine that drives a run if none is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """A load run: the same plan sends the same requests at the same offsets.

    Attributes:
        topology: the path from caller to model.
        caller: the caller that sends.
        use_cases: drawn uniformly; list one several times to give it more weight.
        arrivals: when requests are sent.
        endpoints: addresses that the topology needs.
        spool: file for the history; must not exist. In the plan's JSON form, a bare name is relative to the plan, so
            that a run's folder can be moved; likewise for a trace.
        summary: file for the driver's summary, as JSON; likewise.
        payload_bytes: size of a request without its envelope, if the arrivals have none.
        seed: of the draws of use cases, users and contexts.
        users: size of the population; its ids are ``u0`` to ``u<users - 1>``, drawn uniformly.
        contexts: field, see :data:`CHOSEN_FIELDS`, → choices, drawn uniformly; repeat a choice to give it more weight.
            Requests lack a field without choices. A choice of ``override`` pins requests to a model version, except the
            empty one. Choices of ``traffic_origin`` take precedence over the attribute of that name.
        timeout_s: a request without an answer by then is cancelled, seconds. The use case's own timeout, if the client
            knows it, may end a call earlier.
        traffic_origin: ``artificial``, or ``real`` to look like users' traffic, unless ``contexts`` says otherwise.
        tear_every: tears one request in this many, see :class:`lab.load.steps.TearEvery`; 0 for none.
        engine: which engine drives the run, and how.
        drivers: number of drivers that share the requests, each with clock and records of its own, as on several
            machines.
        streams: percent of the requests of APIs with a streaming method that are sent as streams.
        edge_every: one request in this many is an edge case; 0 for none.
        edge_cases: taken in turn.
        id_prefix: of the ids of its requests; empty for one that the driver draws.
    """

    topology: str
    caller: str
    use_cases: tuple[UseCase, ...]
    arrivals: ArrivalPlan
    endpoints: Endpoints
    spool: Path
    summary: Path
    payload_bytes: int = 400
    seed: int = 0
    users: int = 1_000
    contexts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    timeout_s: float = 10.0
    traffic_origin: str = "artificial"
    tear_every: int = 0
    engine: EnginePlan = OPEN_LOOP
    drivers: int = 1
    streams: int = 0
    edge_every: int = 0
    edge_cases: tuple[EdgeCase, ...] = ()
    id_prefix: str = ""

    def __post_init__(self) -> None:
        _check(bool(self.use_cases), "use_cases", "is empty; name one or more use cases")
        for use_case in self.use_cases:
            known = ", ".join(APIS)
            _check(use_case.api in APIS, "use_cases", f"{use_case.name}: no API {use_case.api!r}; known: {known}")
        for name, choices in self.contexts.items():
            _check(name in CHOSEN_FIELDS, "contexts", f"no field {name!r}; known: {', '.join(CHOSEN_FIELDS)}")
            _check(bool(choices), "contexts", f"{name} has no choices; write some, or leave it out")
        for origin in (self.traffic_origin, *self.contexts.get(TRAFFIC_ORIGIN, ())):
            _check(
                origin in ("real", "artificial"),
                TRAFFIC_ORIGIN,
                f"{origin!r} is not known; write 'real' or 'artificial'",
            )
        for name in ("topology", "caller"):
            _check(isinstance(getattr(self, name), str), name, f"{getattr(self, name)!r} is not a text; write a name")
        for name, within in _WHOLE.items():
            require_whole(name, getattr(self, name), within)
        require_number("timeout_s", self.timeout_s, SECONDS)
        names = {use_case.name for use_case in self.use_cases}
        for case in self.edge_cases:
            _check(case.use_case in names, "edge_cases", f"{case.use_case!r} is none of the plan's use cases")
            for name in case.context:
                _check(name in ("user_id", *CHOSEN_FIELDS), "edge_cases", f"no field {name!r}")
        decides = TOPOLOGIES[self.topology].decides_at_caller if self.topology in TOPOLOGIES else True
        _check(
            not self.tear_every or decides,
            "tear_every",
            f"in topology {self.topology} the caller does not make header and body; use another topology",
        )

        engine = self.engine
        _check(engine.as_drawn or self.drivers == 1, "drivers", f"not for engine {engine.name}; leave them out")
        _check(
            engine.workers <= self.users,
            "users",
            f"{self.users} is too few for {engine.workers} workers: each needs at least one user",
        )
        _check(
            engine.scheduled or not isinstance(self.arrivals, Trace),
            "arrivals",
            f"a trace cannot be played where people or users decide when requests are sent, as with engine "
            f"{engine.name} here; choose another, or leave --ui, or the users' own waits, out",
        )

    @property
    def checked_by(self) -> dict[str, str]:
        """Checkers that must give a verdict on the run, and why."""
        declared = {
            "asked": self.engine.scheduled and "the run has a schedule",
            "announced": self.id_prefix and "the plan has the prefix of its ids",
            "drivers": self.drivers > 1 and f"the run has {self.drivers} drivers",
            "streams": self.streams
            and any(APIS[each.api].stream for each in self.use_cases)
            and f"{self.streams} % of the requests are streams",
        }
        return {**{checker: why for checker, why in declared.items() if why}, **self.engine.checked_by}

    def is_stream(self, sequence: int, use_case: UseCase) -> bool:
        """Whether this request is sent as a stream; see the rule above."""
        if not self.streams or APIS[use_case.api].stream is None:
            return False
        return _number_of(f"stream:{self.seed}:{sequence}") % _ALL < self.streams

    def edge_case(self, sequence: int) -> EdgeCase | None:
        """The edge case that this request is; None for most."""
        every = self.edge_every
        if not every or not self.edge_cases or (sequence + 1) % every:
            return None
        return self.edge_cases[sequence // every % len(self.edge_cases)]

    def spool_of(self, number: int) -> Path:
        """The spool of one of several drivers, counted from 0; the plan's own if there is one driver."""
        return self.spool if self.drivers == 1 else self.spool.with_stem(f"{self.spool.stem}-{number + 1}")

    def ids_of(self, number: int) -> str:
        """What the ids of one client begin with, of those that share the run, counted from 0; each has its leases."""
        return self.id_prefix and f"{self.id_prefix}.{number}"

    def schedule(self) -> Schedule:
        """All arrivals of the run, if its engine is :attr:`~EnginePlan.scheduled`.

        Raises:
            InputError: they cannot be computed or read.
        """
        return schedule(self.arrivals, self.payload_bytes)


def _open_loop(document: Mapping[str, Any], beside: Path) -> EnginePlan:
    del document, beside
    return OPEN_LOOP


def write_plan(plan: LoadPlan, path: Path) -> None:
    """Writes a plan as JSON.

    Raises:
        RunError: the file cannot be written.
    """
    document = {each.name: getattr(plan, each.name) for each in fields(plan)}
    document |= {
        "engine": plan.engine.to_document(),
        "arrivals": arrivals_to_document(plan.arrivals),
        "contexts": dict(plan.contexts),
    }
    try:
        path.write_bytes(orjson.dumps(document, default=str, option=orjson.OPT_INDENT_2))
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}") from error


def read_plan(path: Path, older: Callable[[Mapping[str, Any], Path], EnginePlan] = _open_loop) -> LoadPlan:
    """The inverse of :func:`write_plan`.

    Args:
        path: the plan's file.
        older: returns the engine's part of a plan from before plans named their engine, given its JSON form and folder;
            by default that of the open loop.

    Raises:
        RunError: there is no such file, or it is not a plan; names the file and the field.
    """
    try:
        document = read_json(path)
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}; name a load plan") from error
    except ValueError as error:
        raise RunError(f"{where(path, error)}: no JSON ({error}); name a load plan") from error
    try:
        engine = document.get("engine")
        return _plan(
            document,
            path.parent,
            older(document, path.parent) if engine is None else EnginePlan.from_document(engine, path.parent),
        )
    except InputError as error:
        raise RunError(f"{path}: {error}") from error
    except KeyError as error:
        raise RunError(f"{path}: {error.args[0]} is missing; write the plan with lab.load.plan.write_plan") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path}: is not a load plan ({error}); write it with lab.load.plan.write_plan") from error


_YOUNGER = ("tear_every", "processes", "drivers", "streams", "edge_every", "edge_cases", "engine", "id_prefix")
"""Fields that plans of older runs lack."""


def _plan(document: Mapping[str, Any], beside: Path, engine: EnginePlan) -> LoadPlan:
    names = [each.name for each in fields(LoadPlan)]
    own = {name: document[name] for name in names if name in document or name not in _YOUNGER}
    arrivals = arrivals_from_document(own["arrivals"])
    if isinstance(arrivals, Trace):
        arrivals = replace(arrivals, path=str(beside / arrivals.path))
    own |= {
        "edge_cases": tuple(EdgeCase(**case) for case in own.get("edge_cases", ())),
        "engine": engine,
        "use_cases": tuple(UseCase(**use_case) for use_case in own["use_cases"]),
        "arrivals": arrivals,
        "endpoints": Endpoints.from_document(own["endpoints"]),
        "contexts": {name: tuple(choices) for name, choices in own["contexts"].items()},
        "spool": beside / own["spool"],
        "summary": beside / own["summary"],
    }
    return LoadPlan(**own)


def _number_of(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
