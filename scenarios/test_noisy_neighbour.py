"""A tenant that floods its model with five times its capacity, and what that costs other tenants.

Quiet and noisy stretches alternate within one run, so that drift of the machine cancels. The noisy tenant has a caller
and its own model. Service time and concurrency limit make the model's capacity small, so that the flood exhausts
the model and not the processor, which all units share.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from lab.measure.compare import Interval, median_ratio
from lab.routing.document import read_path
from lab.runs import LoadOptions
from lab.topologies import TOPOLOGIES
from models.proto.control.v1 import stub_pb2
from scenarios.framework.steps import (
    AT_MOST_S,
    assert_no_wrong_answer,
    is_on_time,
    load_on,
    records_of,
    set_behaviour,
    under_load,
    verdict_of,
)
from scenarios.framework.verdicts import INVALID, UNKNOWN, VALID, UnknownError

if TYPE_CHECKING:
    from lab.history import Record
    from lab.lab import Lab
    from scenarios.framework.machine_lock import MachineLock
    from scenarios.framework.scenario import Scenario

NOISY, OTHERS = "noisy", ("drama", "kids", "sports")
NOISY_CLUSTER, OTHERS_CLUSTER = "ml-cluster-4", "ml-cluster-3"
SERVICE_MS, PLACES = 200.0, 2
"""Service time and places of the noisy tenant's model: two replicas with one each, 10 requests per second."""
CAPACITY_RPS = PLACES * 1_000 / SERVICE_MS
FLOOD_RPS = round(5 * CAPACITY_RPS)
BURST = round(0.4 * CAPACITY_RPS)
OTHERS_MS, OTHERS_RPS = 25.0, 300.0
WORSE = 1.2
"""Bound on the others' p99, as a multiple of the quiet stretches'."""

ROUNDS = 4
TRIES = 8
"""Maximum number of repetitions until the rounds decide."""

STRETCH_S = 1.0
SETTLED_NS = 100_000_000


@dataclass(frozen=True)
class Rounds:
    """Noisy stretches, each with the quiet one that follows it, and the cost of the flood to the other tenants.

    Attributes:
        noisy: latencies of the others' requests in each noisy stretch, milliseconds.
        quiet: the same for the quiet stretches.
        failed: number of the others' failed requests.
        refusals: messages of the noisy tenant's refused requests.
        asked: number of the noisy tenant's requests.
        late: whether the driver was too late for latencies to count.
    """

    noisy: tuple[list[float], ...]
    quiet: tuple[list[float], ...]
    failed: int
    refusals: tuple[str, ...]
    asked: int
    late: bool

    @cached_property
    def ratio(self) -> Interval:
        """The others' p99 in a noisy stretch over that in the quiet one after it.

        It is a median over rounds, so that a disturbance of one stretch does not decide.
        """
        return median_ratio(_p99s(self.noisy), _p99s(self.quiet), seed=0)

    @property
    def verdict(self) -> str:
        """Whether the p99 is at most :data:`WORSE` times its quiet value."""
        if self.late or self.ratio.low <= WORSE < self.ratio.high:
            return UNKNOWN
        return VALID if self.ratio.high <= WORSE else INVALID

    @property
    def refused(self) -> float:
        """Refused share of the noisy tenant's requests, 0 to 1."""
        return len(self.refusals) / self.asked

    def __str__(self) -> str:
        of, late = self.ratio, " (the driver was late)" if self.late else ""
        return (
            f"the others' p99 is {of.estimate:.2f} times its quiet value ({of.low:.2f} to {of.high:.2f}), "
            f"{self.failed} of their requests failed, {self.refused:.0%} of the flood was refused{late}"
        )

    @classmethod
    def of(cls, others: Sequence[Record], noise: Sequence[Record], *, late: bool) -> Rounds:
        """The rounds of one run.

        Raises:
            UnknownError: the flood began too late for enough rounds.
        """
        start = min(record.intended_ns for record in noise)
        noisy: list[list[float]] = [[] for _ in range(ROUNDS)]
        quiet: list[list[float]] = [[] for _ in range(ROUNDS)]
        stretch_ns = round(STRETCH_S * 1e9)
        for record in others:
            number, into_ns = divmod(record.intended_ns - start, stretch_ns)
            if 0 <= number < 2 * ROUNDS and into_ns >= SETTLED_NS:
                (quiet if number % 2 else noisy)[number // 2].append((record.done_ns - record.intended_ns) / 1e6)
        pairs = [pair for pair in zip(noisy, quiet, strict=True) if all(pair)]
        if len(pairs) < ROUNDS - 1:
            raise UnknownError(f"{len(pairs)} of {ROUNDS} rounds of the flood fell into the others' run")
        return cls(
            noisy=tuple(loud for loud, _ in pairs),
            quiet=tuple(still for _, still in pairs),
            failed=sum(record.status != "OK" for record in others),
            refusals=tuple(record.message for record in noise if record.status == "RESOURCE_EXHAUSTED"),
            asked=len(noise),
            late=late,
        )

    def __add__(self, more: Rounds) -> Rounds:
        """Both repetitions. Latencies of a late driver do not count; what was answered does."""
        timed = [each for each in (self, more) if not each.late] or [more]
        return Rounds(
            tuple(stretch for each in timed for stretch in each.noisy),
            tuple(stretch for each in timed for stretch in each.quiet),
            self.failed + more.failed,
            self.refusals + more.refusals,
            self.asked + more.asked,
            late=self.late and more.late,
        )


def _p99s(stretches: Sequence[Sequence[float]]) -> list[float]:
    return [float(np.quantile(each, 0.99, method="higher")) for each in stretches]


@pytest.fixture(autouse=True)
def models(lab: Lab) -> Iterator[None]:
    """Makes the models small for the scenario, and restores them."""
    set_behaviour(lab, _taking(SERVICE_MS, at_once=1), NOISY_CLUSTER)
    set_behaviour(lab, _taking(OTHERS_MS), OTHERS_CLUSTER)
    yield
    for cluster in (NOISY_CLUSTER, OTHERS_CLUSTER):
        set_behaviour(lab, _taking(0), cluster)


@pytest.mark.scenario(
    takes_s=20,
    long_on=("gateway-passthrough", "gateway-header", "proxyless"),
    alone_on=("mesh", "mesh-unleased", "proxyless"),
)
@pytest.mark.timeout(600)  # it may have to wait for the machine lock
def test_a_flooding_tenant_leaves_other_models_alone(
    scenario: Scenario, lab: Lab, topology: str, routes: Path, tmp_path: Path, machine_lock: MachineLock
) -> None:
    """One tenant floods its own model; limits refuse it early, and the tenants of other models are served.

    Where no proxy limits tenants, the others' p99 must be at most 1.2 times its quiet value. Elsewhere it is a figure.
    """
    tables = {"without limits": _table(routes, tmp_path)}
    if TOPOLOGIES[topology].capabilities.tenant_rates:
        tables["with limits"] = _table(routes, tmp_path, **{NOISY: {"rate": CAPACITY_RPS, "burst": BURST}})

    for limits, table in tables.items():
        with scenario.step(f"Publish a table {limits}"):
            lab.routes.publish(table, comment=f"noisy neighbour, {limits}")
        judged = not TOPOLOGIES[topology].capabilities.tenant_rates
        with (
            machine_lock.exclusive() if judged else nullcontext(),
            scenario.step("Let one tenant flood its model, every other second"),
        ):
            seen = _flooded(lab, topology, tmp_path, tries=TRIES if judged else 1)
        scenario.figure(limits, f"{seen}; at most {WORSE} times: {seen.verdict}")

        # The model has places for a fifth of the flood.
        if seen.refused < 1 / 2:
            raise UnknownError(f"the flood had no visible effect: {seen}")
        by_rate = any(f"tenants.{NOISY}.rate" in message for message in seen.refusals)
        assert by_rate == (limits == "with limits"), set(seen.refusals)
        assert seen.failed == 0, seen
        if judged:
            if seen.verdict == UNKNOWN:
                raise UnknownError(str(seen))
            assert seen.verdict == VALID, seen


@pytest.mark.scenario(takes_s=7, long_on=("gateway-passthrough", "gateway-header", "proxyless"))
def test_a_tenant_limit_leaves_room_for_others(
    scenario: Scenario, lab: Lab, topology: str, routes: Path, tmp_path: Path
) -> None:
    """Without its own limit a tenant takes all places at a model; with one, the others lose nothing."""
    lab.routes.publish(_table(routes, tmp_path))
    tenants = {"tenant": (NOISY,) * 80 + OTHERS}
    load = load_on(topology, rate=415, use_cases=("HomepageRows",), duration_s=2, contexts=tenants)
    # Of 16 places at each of two replicas the noisy tenant's 20 requests at a time leave none; of 6 they leave 10.
    refused = {}
    for limit in (0, 6):
        set_behaviour(lab, _taking(100, at_once=16, of_each_tenant=limit), OTHERS_CLUSTER)
        with scenario.step(
            f"Flood the model, {f'of which a tenant may have {limit} places' if limit else 'without limits'}"
        ):
            result = lab.load(load)
        by_tenant = result.summary.by_tenant
        assert by_tenant[NOISY].by_status.get("RESOURCE_EXHAUSTED"), result.folder
        refused[limit] = sum(by_tenant[tenant].failed for tenant in OTHERS)
        assert verdict_of(result, "origin") == "valid", result.folder

    if not refused[0]:
        raise UnknownError("the flood had no visible effect")
    assert refused[6] == 0, result.folder
    for record in records_of(result):
        if record.status != "OK":
            assert "its tenant_concurrency_limit, and tenant 'noisy' has as many" in record.message


def _taking(ms: float, *, at_once: int = 0, of_each_tenant: int = 0) -> stub_pb2.Behaviour:
    return stub_pb2.Behaviour(
        constant=stub_pb2.ConstantLatency(ms=ms), concurrency_limit=at_once, tenant_concurrency_limit=of_each_tenant
    )


def _table(routes: Path, folder: Path, **tenants: dict[str, float]) -> Path:
    """The default table with one version of each of the two models, and these tenant limits."""
    document = read_path(routes).document
    for use_case, default in (("HomepageRows", "rows@v1"), ("SearchRanking", "search-ranker@v1")):
        entry = document["use_cases"][use_case]
        kept = {name: entry[name] for name in ("callers", "api")}
        document["use_cases"][use_case] = {**kept, "timeout": "2s", "default": default}
    path = folder / f"{'-'.join(tenants) or 'unlimited'}.yaml"
    path.write_text(json.dumps({**document, "tenants": tenants}))
    return path


def _flooded(lab: Lab, topology: str, folder: Path, *, tries: int) -> Rounds:
    """Drives the others all the time, and the noisy tenant every other second.

    Repeats up to ``tries`` times until the p99 is decided.
    """
    rounds = _rounds(lab, topology, folder)
    while rounds.verdict == UNKNOWN and tries > 1:
        tries -= 1
        rounds += _rounds(lab, topology, folder)
    return rounds


def _rounds(lab: Lab, topology: str, folder: Path) -> Rounds:
    duration_s = 2 * STRETCH_S * ROUNDS + AT_MOST_S
    tenants = {"tenant": OTHERS}
    others = load_on(topology, OTHERS_RPS, use_cases=("HomepageRows",), duration_s=duration_s, contexts=tenants)
    flood = LoadOptions(
        topology=topology,
        caller="search",
        use_cases=("SearchRanking",),
        arrivals=f"trace:{_bursts(folder / 'flood.csv')}",
        contexts={"tenant": (NOISY,)},
    )
    with under_load(lab, others) as run:
        flooded = lab.load(flood)
    for result in (run.result(), flooded):
        assert_no_wrong_answer(result)
    late = not is_on_time(run.result())
    return Rounds.of(records_of(run.result()), records_of(flooded), late=late)


def _bursts(path: Path) -> Path:
    """A trace: a noisy second, a quiet one, and so on; a last request ends the last quiet one."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    offsets = [
        2 * STRETCH_S * number + place / FLOOD_RPS
        for number in range(ROUNDS)
        for place in range(round(STRETCH_S * FLOOD_RPS))
    ]
    times = (start + timedelta(seconds=offset) for offset in (*offsets, 2 * STRETCH_S * ROUNDS))
    path.write_text("TIMESTAMP,ContextTokens\n" + "".join(f"{time:%Y-%m-%d %H:%M:%S.%f},100\n" for time in times))
    return path
