"""Computes the requests of a load plan a second time: when each is due, and what it asks.

It reads the plan's JSON form and shares no code with ``lab.load``, so a driver that asks something else is found. The
algorithm, of which ``lab.load.arrivals``, ``lab.load.mix`` and ``lab.load.trace`` are the other implementation:

- ``constant``: request n is due at n / rate, for n from 0 to rate · duration - 1, rounded to nanoseconds.
- ``poisson``: the gaps are -ln(1 - x) / rate, with x from the Mersenne Twister seeded with the arrivals' seed. The sums
  below the duration count, cut to nanoseconds.
- ``trace``: the time since the first row, divided by the speedup. A token is a payload of four bytes. Its lines are
  CSV, or objects of JSON, whose ``timestamp`` is in milliseconds.
- The mix draws from another Mersenne Twister, seeded with ``mix:<seed>``. Each request takes one number for its use
  case if several are listed, one for its user, and one for each context field with several choices, in the plan's
  order. A number x in [0, 1) takes the choice at floor(x · count).
- Request n of an API that streams is a stream if the first eight bytes of BLAKE2b of ``stream:<seed>:<n>``, as a
  big-endian number modulo 100, are below the plan's percentage.
- Each ``edge_every``-th request is the next of the plan's edge cases, which are taken in turn: their fields replace
  those drawn.
- If the engine does not ask as drawn, its users take the requests in turn, each as itself, and what the engine decides
  replaces what is drawn.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any, NamedTuple

from lab.checkers.plain_models import payload_size

_NS = 1_000_000_000
_TOKEN_BYTES = 4
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

STREAMING = frozenset({"ranking.v1", "generate.v1"})
"""The APIs with a streaming method."""

FIELDS = ("user_id", "device", "country", "segment", "surface", "tenant", "traffic_origin", "override")

ANY = "\n"
"""In place of a field that the engine decides; no field can have a control character."""

ONE_OF_THE_USERS = "\nu"
"""In place of the user: any of the run's, who take turns."""


class PlannedRequest(NamedTuple):
    """One request of a plan; its sequence number is its place.

    Attributes:
        offset_ns: when it is due, from the start of the run.
        payload_bytes: size without the envelope, as the message of its API has it; 0 where it is not planned.
        use_case: empty if the engine decides what is asked, as are the fields of the context then.
        user_id: :data:`ONE_OF_THE_USERS` if users take turns; like other fields :data:`ANY` if the engine decides.
    """

    offset_ns: int
    payload_bytes: int = 0
    use_case: str = ""
    user_id: str = ""
    device: str = ""
    country: str = ""
    segment: str = ""
    surface: str = ""
    tenant: str = ""
    traffic_origin: str = ""
    override: str = ""
    streamed: int = 0


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """The requests of a run, and the arrival process that they claim to follow.

    Attributes:
        requests: in the order of their sequence numbers.
        kind: of the arrivals: ``constant``, ``poisson`` or ``trace``.
        rate: of the arrivals, requests per second; 0 for a trace.
        duration_ns: of the run.
        users: number of users, whose ids are ``u0``, ``u1``, …
    """

    requests: Sequence[PlannedRequest]
    kind: str
    rate: float
    duration_ns: int
    users: int = 0

    @property
    def offered_rps(self) -> float:
        """Planned requests per second: of these requests, not the mean of their distribution."""
        return len(self.requests) * _NS / self.duration_ns if self.duration_ns else 0.0


def is_planned(plan: Mapping[str, Any]) -> bool:
    """Whether a plan, in its JSON form, says when requests are due: not so if people, or users who wait, decide it."""
    return bool(plan["engine"]["scheduled"])


def planned_run(plan: Mapping[str, Any], requests: Sequence[PlannedRequest]) -> PlannedRun:
    """Returns the run of a plan whose requests are known."""
    arrivals = plan["arrivals"]
    if arrivals["kind"] == "trace":
        return PlannedRun(requests, "trace", 0.0, requests[-1].offset_ns if requests else 0, plan["users"])
    return PlannedRun(requests, arrivals["kind"], arrivals["rate"], round(arrivals["duration_s"] * _NS), plan["users"])


def planned_requests(plan: Mapping[str, Any], trace: Iterable[str] = ()) -> Iterator[PlannedRequest]:
    """Yields the requests of a plan in order.

    Args:
        plan: in its JSON form.
        trace: lines of the trace, if it plays one.
    """
    arrivals = _arrivals(plan, trace)
    if plan["engine"]["as_drawn"]:
        yield from _drawn(plan, arrivals)
        return
    decided = plan["engine"]["decides"]
    if not {*decided} <= {*FIELDS, "payload_bytes"}:  # with the use case, all that there is to decide
        yield from (PlannedRequest(offset_ns) for offset_ns, _ in arrivals)
        return
    open_fields: dict[str, Any] = {"user_id": ONE_OF_THE_USERS, **dict.fromkeys(decided, ANY)}
    if "payload_bytes" in decided:
        open_fields["payload_bytes"] = 0
    yield from (each._replace(**open_fields) for each in _drawn(plan, arrivals))


def _drawn(plan: Mapping[str, Any], arrivals: Iterable[tuple[int, int]]) -> Iterator[PlannedRequest]:
    draw = Random(f"mix:{plan['seed']}").random  # noqa: S311 (not security-relevant)
    use_cases = [(each["name"], each["api"]) for each in plan["use_cases"]]
    users, choices = plan["users"], [(field, _choices(plan, field)) for field in plan["contexts"]]
    fixed = {field: _choices(plan, field)[0] for field in FIELDS if field != "user_id"}
    sizes: dict[tuple[str, int], int] = {}
    apis, cases = dict(use_cases), plan.get("edge_cases", []) if plan.get("edge_every") else []
    for number, (offset_ns, wanted_bytes) in enumerate(arrivals):
        name, api = use_cases[math.floor(draw() * len(use_cases))] if len(use_cases) > 1 else use_cases[0]
        user_id = f"u{math.floor(draw() * users)}"
        drawn = {field: its[math.floor(draw() * len(its))] for field, its in choices if len(its) > 1}
        context = {"user_id": user_id, **fixed, **drawn}
        if cases and (number + 1) % plan["edge_every"] == 0:
            case = cases[(number + 1) // plan["edge_every"] % len(cases) - 1]
            name, api = case["use_case"], apis[case["use_case"]]
            context |= case["context"]
        size = sizes.get((api, wanted_bytes))
        if size is None:
            size = sizes[api, wanted_bytes] = payload_size(api, wanted_bytes)
        streamed = api in STREAMING and _hashed(f"stream:{plan['seed']}:{number}") % 100 < plan.get("streams", 0)
        yield PlannedRequest(offset_ns, size, name, **context, streamed=int(streamed))


def _hashed(text: str) -> int:
    return int(hashlib.blake2b(text.encode(), digest_size=8).hexdigest(), 16)


def _choices(plan: Mapping[str, Any], field: str) -> Sequence[str]:
    absent = plan["traffic_origin"] if field == "traffic_origin" else ""
    return plan["contexts"].get(field) or [absent]


def _arrivals(plan: Mapping[str, Any], trace: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Yields offset, ns, and payload, bytes, of each request."""
    arrivals = plan["arrivals"]
    match arrivals["kind"]:
        case "constant":
            rate, size = arrivals["rate"], plan["payload_bytes"]
            yield from ((round(n * _NS / rate), size) for n in range(round(rate * arrivals["duration_s"])))
        case "poisson":
            yield from ((offset_ns, plan["payload_bytes"]) for offset_ns in _poisson(arrivals))
        case "trace":
            yield from _played(arrivals, trace)
        case kind:
            raise ValueError(f"no arrival process {kind!r}")


def _poisson(arrivals: Mapping[str, Any]) -> Iterator[int]:
    draw = Random(arrivals["seed"]).random  # noqa: S311 (not security-relevant)
    at_s = -math.log(1.0 - draw()) / arrivals["rate"]
    while at_s < arrivals["duration_s"]:
        yield int(at_s * _NS)
        at_s += -math.log(1.0 - draw()) / arrivals["rate"]


def _played(arrivals: Mapping[str, Any], trace: Iterable[str]) -> Iterator[tuple[int, int]]:
    first_ns: int | None = None
    for number, (time_ns, tokens) in enumerate(_rows(list(trace))):
        if number == arrivals["limit"]:
            return
        first_ns = time_ns if first_ns is None else first_ns
        yield round((time_ns - first_ns) / arrivals["speedup"]), tokens * _TOKEN_BYTES


def _rows(trace: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yields time, ns, and tokens of each row, in either form."""
    if trace[:1] and trace[0].lstrip().startswith("{"):
        for its in map(json.loads, filter(str.strip, trace)):
            yield round(its["timestamp"] * 1_000_000), its["input_length"]
        return
    for row in csv.DictReader(trace):
        cells = {name.strip(): cell for name, cell in row.items()}
        yield _unix_ns(cells["TIMESTAMP"].strip()), int(cells["ContextTokens"])


def _unix_ns(text: str) -> int:
    """Returns a time with up to nine fractional digits, of which ``datetime`` would keep six; UTC without an offset."""
    seconds, rest = text[:19], text[19:]
    digits = rest.removeprefix(".")
    zone = digits.lstrip("0123456789")
    fraction = digits.removesuffix(zone) if rest.startswith(".") else ""
    since = datetime.fromisoformat(seconds + (zone or "+00:00")) - _EPOCH
    return (since.days * 86_400 + since.seconds) * _NS + int(fraction.ljust(9, "0") or 0)
