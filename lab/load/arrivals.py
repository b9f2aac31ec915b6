"""Arrival processes: when requests are sent. The same plan gives the same arrivals, to the nanosecond.

To add a kind: a frozen dataclass with ``kind``, ``parse``, ``duration_ns`` and ``arrivals``, and its entries in
:data:`ArrivalPlan` and :data:`ARRIVALS`.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Self, TypeAlias

from lab.bounds import RATE, REQUESTS, SECONDS, SEED, SPEEDUP, require_number, require_whole
from lab.errors import InputError
from lab.load.trace import read_trace

NS = 1_000_000_000

MAX_ARRIVALS = 20_000_000
"""Maximum requests of one plan: all are computed before the first is sent, 16 bytes each."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request's time and size.

    Attributes:
        offset_ns: from the start of the run.
        payload_bytes: size of the request without its envelope; None for the size in the load plan.
    """

    offset_ns: int
    payload_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivalOptions:
    """The command line's options for arrivals; each kind reads those that concern it.

    Attributes:
        rate: requests per second.
        duration_s: length of the run, seconds.
        seed: of random arrivals.
        speedup: how many times faster than recorded a trace is replayed.
        limit: number of a trace's requests to replay, None for all.
    """

    rate: float = 100.0
    duration_s: float = 10.0
    seed: int = 0
    speedup: float = 1.0
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class _AtRate:
    """Arrivals at a rate for some time.

    Attributes:
        rate: mean requests per second.
        duration_s: seconds.
    """

    kind: ClassVar[str]
    rate: float
    duration_s: float

    def __post_init__(self) -> None:
        require_number("rate", self.rate, RATE)
        require_number("duration", self.duration_s, SECONDS)
        if self.rate * self.duration_s > MAX_ARRIVALS:
            rate, duration = f"{self.rate:g} rps", f"{self.duration_s:g} s"
            raise InputError(f"arrivals: {rate} for {duration} is more than {MAX_ARRIVALS} requests")

    @classmethod
    def parse(cls, argument: str, options: ArrivalOptions) -> Self:
        """Takes its parameters from the options, and no argument."""
        if argument:
            raise InputError(f"arrivals: {cls.kind} takes no argument, found {argument!r}; write {cls.kind}")
        return cls(**{each.name: getattr(options, each.name) for each in fields(cls)})

    @property
    def duration_ns(self) -> int:
        """Length of the run."""
        return round(self.duration_s * NS)


@dataclass(frozen=True, slots=True)
class Constant(_AtRate):
    """One arrival every ``1 / rate`` seconds, starting at 0."""

    kind: ClassVar[str] = "constant"

    def arrivals(self) -> Iterator[Arrival]:
        """Evenly spaced arrivals."""
        for number in range(round(self.rate * self.duration_s)):
            yield Arrival(round(number * NS / self.rate))


@dataclass(frozen=True, slots=True)
class Poisson(_AtRate):
    """A Poisson process: the gaps are independent and exponentially distributed, as with many independent users.

    The standard deviation of a run's number of requests n is sqrt(n).

    Attributes:
        seed: the same seed gives the same arrivals.
    """

    kind: ClassVar[str] = "poisson"
    seed: int

    def __post_init__(self) -> None:
        _AtRate.__post_init__(self)
        require_whole("seed", self.seed, SEED)

    def arrivals(self) -> Iterator[Arrival]:
        """Sums of exponential gaps until the duration is over."""
        draw = Random(self.seed)  # noqa: S311 (no secret)
        seconds = draw.expovariate(self.rate)
        while seconds < self.duration_s:
            yield Arrival(int(seconds * NS))
            seconds += draw.expovariate(self.rate)


@dataclass(frozen=True, slots=True)
class Trace:
    """Arrivals and payload sizes of a recorded trace, see :mod:`lab.load.trace`, starting at 0.

    Attributes:
        path: the CSV file.
        speedup: how many times faster than recorded.
        limit: maximum number of requests, from the first on; None for all.
    """

    kind: ClassVar[str] = "trace"
    path: str
    speedup: float = 1.0
    limit: int | None = None

    def __post_init__(self) -> None:
        require_number("speedup", self.speedup, SPEEDUP)
        if self.limit is not None:
            require_whole("limit", self.limit, REQUESTS)

    @classmethod
    def parse(cls, argument: str, options: ArrivalOptions) -> Self:
        """Takes the file's name as argument, speedup and limit from the options."""
        if not argument:
            raise InputError("arrivals: 'trace' names no file; write trace:FILE")
        return cls(argument, options.speedup, options.limit)

    @property
    def duration_ns(self) -> None:
        """None: the run ends with its last arrival."""
        return

    def arrivals(self) -> Iterator[Arrival]:
        """The trace's arrivals, divided by the speedup.

        Raises:
            TraceError: see :func:`lab.load.trace.read_trace`.
        """
        start: int | None = None
        for row in read_trace(Path(self.path), limit=self.limit):
            start = row.time_ns if start is None else start
            yield Arrival(round((row.time_ns - start) / self.speedup), row.payload_bytes)


ArrivalPlan: TypeAlias = Constant | Poisson | Trace
"""An arrival process with its parameters."""

ARRIVALS: dict[str, type[ArrivalPlan]] = {kind.kind: kind for kind in (Poisson, Constant, Trace)}
"""The kinds by name."""


def parse_arrivals(text: str, options: ArrivalOptions) -> ArrivalPlan:
    """Parses the command line's ``poisson``, ``constant`` or ``trace:FILE``.

    Raises:
        InputError: unknown kind, or a rate, duration, speedup or limit out of range.
    """
    kind, _, argument = text.partition(":")
    return _kind(kind).parse(argument, options)


def arrivals_to_document(plan: ArrivalPlan) -> dict[str, Any]:
    """An arrival process as a JSON object: ``kind`` and the parameters."""
    return {"kind": plan.kind, **asdict(plan)}


def arrivals_from_document(document: Mapping[str, Any]) -> ArrivalPlan:
    """The inverse of :func:`arrivals_to_document`.

    Raises:
        InputError: unknown kind, or parameters of another kind.
    """
    parameters = dict(document)
    kind = _kind(str(parameters.pop("kind", "")))
    try:
        return kind(**parameters)
    except TypeError as error:
        raise InputError(f"arrivals: {kind.kind}: {error}") from error


@dataclass(frozen=True, slots=True)
class Share:
    """The requests of a run that one process sends: every ``step``-th from sequence number ``first`` on."""

    first: int = 0
    step: int = 1


WHOLE = Share()
"""All requests of a run."""


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """All arrivals of a run or of a share of it, computed before it starts.

    Attributes:
        offsets_ns: from the start of the run, one per request.
        payload_bytes: one per request.
        duration_ns: length of the run.
        share: the share of the run that these are.
    """

    offsets_ns: array[int]
    payload_bytes: array[int]
    duration_ns: int
    share: Share = WHOLE

    def __len__(self) -> int:
        return len(self.offsets_ns)

    @property
    def offered_rps(self) -> float:
        """Planned requests per second: of this schedule, not the mean of its distribution."""
        return len(self) * NS / self.duration_ns if self.duration_ns else 0.0

    def of(self, share: Share) -> Schedule:
        """The arrivals of one share of a whole schedule; none if there are more shares than requests."""
        offsets, sizes = self.offsets_ns[share.first :: share.step], self.payload_bytes[share.first :: share.step]
        return Schedule(offsets, sizes, self.duration_ns, share)


def schedule(plan: ArrivalPlan, payload_bytes: int) -> Schedule:
    """Computes all arrivals, or reads them from the trace.

    Args:
        plan: the arrival process.
        payload_bytes: for arrivals without their own size.

    Raises:
        TraceError: see :func:`lab.load.trace.read_trace`.
        InputError: too many arrivals, or none.
    """
    offsets, sizes = array("q"), array("q")
    for arrival in plan.arrivals():
        offsets.append(arrival.offset_ns)
        sizes.append(payload_bytes if arrival.payload_bytes is None else arrival.payload_bytes)
        if len(offsets) > MAX_ARRIVALS:
            raise InputError(f"arrivals: more than {MAX_ARRIVALS} requests: set a limit, or split the run")
    if not offsets:
        raise InputError("arrivals: no request falls into the run; raise the rate or the duration")
    duration = plan.duration_ns
    return Schedule(offsets, sizes, offsets[-1] if duration is None else duration)


def _kind(name: str) -> type[ArrivalPlan]:
    try:
        return ARRIVALS[name]
    except KeyError:
        known = ", ".join("trace:FILE" if kind == Trace.kind else kind for kind in ARRIVALS)
        raise InputError(f"arrivals: {name!r} is not known; write one of {known}") from None
