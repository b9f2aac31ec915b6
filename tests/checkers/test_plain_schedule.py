"""The checkers' schedule and mix, compared with those of the driver: two implementations of the same algorithm."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lab.checkers.plain_models import payload_size
from lab.checkers.plain_schedule import ANY, ONE_OF_THE_USERS, PlannedRequest, is_planned, planned_requests, planned_run
from lab.load.arrivals import Constant, Poisson, Share, Trace
from lab.load.mix import Mix
from lab.load.plan import OPEN_LOOP, EdgeCase, EnginePlan, UseCase, write_plan
from models.apis import APIS
from tests.load.builders import load_plan

if TYPE_CHECKING:
    from lab.load.plan import LoadPlan

TRACE = """TIMESTAMP, ContextTokens ,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10

2023-11-16 18:17:04.0319569,110,27
2023-11-16T19:17:04.0319570+01:00,0,3
2023-11-16 18:17:09Z,12,1
2023-11-16 18:17:10,700,1
"""
JSON_LINES = """\
{"timestamp": 1000, "input_length": 110, "output_length": 27, "hash_ids": [1]}
{"timestamp": 1000.25, "input_length": 0, "output_length": 3, "hash_ids": []}

{"timestamp": 4000, "input_length": 700, "output_length": 1, "hash_ids": [1, 9]}
"""
CONTEXTS = {
    "device": ("tv", "phone", "web"),
    "country": ("DE",),
    "override": ("", "", "cw-ranker@v2"),
    "traffic_origin": ("real", "artificial"),
    "tenant": ("Österreich", "batch"),
}
RANKING, FRAUD = UseCase("Rows", "ranking.v1"), UseCase("Fraud", "fraud.v1")
ARRIVALS = [
    Constant(333.3, 1.5),
    Constant(1000, 0.5),
    Poisson(700, 1, 3),
    Poisson(70, 2.5, 99),
    Trace("trace.csv"),
    Trace("trace.csv", 7.3, 4),
    Trace("trace.jsonl", 3.0),
]


def _document(plan: LoadPlan, folder: Path) -> dict[str, Any]:
    write_plan(plan, folder / "plan.json")
    document: dict[str, Any] = json.loads((folder / "plan.json").read_text())
    return document


def _by_the_driver(plan: LoadPlan, share: Share) -> dict[int, PlannedRequest]:
    mix, schedule = Mix(plan, share), plan.schedule().of(share)
    asked = {}
    for place, (offset, wanted) in enumerate(zip(schedule.offsets_ns, schedule.payload_bytes, strict=True)):
        spec = mix.draw()
        context = {name: value for name, value in spec.context.items() if name != "caller"}
        size = APIS[spec.use_case.api].build_request(wanted).ByteSize()
        sequence = share.first + place * share.step
        streamed = int(plan.is_stream(sequence, spec.use_case))
        asked[sequence] = PlannedRequest(offset, size, spec.use_case.name, **context, streamed=streamed)
    return asked


@pytest.mark.parametrize("arrivals", ARRIVALS, ids=str)
@pytest.mark.parametrize("use_cases", [(RANKING,), (RANKING, FRAUD, RANKING)], ids=len)
@pytest.mark.parametrize("contexts", [{}, CONTEXTS], ids=len)
@pytest.mark.parametrize(("drivers", "streams"), [(1, 0), (3, 30)])
def test_both_implementations_plan_the_same(
    tmp_path: Path, arrivals: Any, use_cases: tuple[UseCase, ...], contexts: Any, drivers: int, streams: int
) -> None:
    trace = TRACE
    if isinstance(arrivals, Trace):
        trace = TRACE if arrivals.path.endswith(".csv") else JSON_LINES
        (tmp_path / arrivals.path).write_text(trace)
        arrivals = Trace(str(tmp_path / arrivals.path), arrivals.speedup, arrivals.limit)
    plan = load_plan(
        tmp_path, arrivals=arrivals, use_cases=use_cases, contexts=contexts, drivers=drivers, seed=5, users=77
    )
    cases = (
        EdgeCase(use_cases[-1].name, {"user_id": "Ü 7", "country": "de"}),
        EdgeCase(use_cases[0].name, {}),
        EdgeCase(use_cases[0].name, {"tenant": " batch"}),
    )
    plan = replace(plan, streams=streams, edge_every=4, edge_cases=cases[: streams // 10])
    shares = [_by_the_driver(plan, Share(first, drivers)) for first in range(drivers)]
    asked = dict(sorted(pair for share in shares for pair in share.items()))

    requests = list(planned_requests(_document(plan, tmp_path), trace.splitlines(keepends=True)))

    assert requests == list(asked.values())
    assert list(asked) == list(range(len(requests)))
    run = planned_run(_document(plan, tmp_path), requests)
    assert (run.duration_ns, run.offered_rps) == (plan.schedule().duration_ns, plan.schedule().offered_rps)


@pytest.mark.parametrize("api", APIS)
def test_both_implementations_build_payloads_of_the_same_size(api: str) -> None:
    for wanted in (*range(1_500), 100_000, 500_000, 4_000_000):
        assert payload_size(api, wanted) == APIS[api].build_request(wanted).ByteSize()


def test_a_payload_of_an_unknown_api_is_not_planned() -> None:
    assert payload_size("speech.v1", 400) == 0


@pytest.mark.parametrize(
    ("engine", "planned"),
    [
        (EnginePlan(name="people"), True),
        (EnginePlan(name="people", ui_port=8089), False),
        (EnginePlan(name="people", closed_loop=True), False),
        (OPEN_LOOP, True),
    ],
)
def test_people_and_waiting_users_leave_no_plan(tmp_path: Path, *, engine: EnginePlan, planned: bool) -> None:
    plan = load_plan(tmp_path, engine=engine)
    assert (is_planned(_document(plan, tmp_path)), plan.engine.scheduled) == (planned, planned)


def deciding(tmp_path: Path, *fields: str) -> tuple[list[PlannedRequest], list[PlannedRequest]]:
    """The requests that an engine is to send which decides these fields, and those of the open loop."""
    plan = load_plan(tmp_path, contexts=CONTEXTS, engine=EnginePlan(name="people", decides=fields))
    found = list(planned_requests(_document(plan, tmp_path)))
    assert [each.offset_ns for each in found] == list(plan.schedule().offsets_ns)
    return found, list(planned_requests(_document(replace(plan, engine=OPEN_LOOP), tmp_path)))


def test_where_an_engine_decides_the_use_case_times_alone_are_planned(tmp_path: Path) -> None:
    found, _ = deciding(tmp_path, "use_case")
    assert {each._replace(offset_ns=0) for each in found} == {PlannedRequest(0)}


def test_what_an_engine_does_not_decide_is_planned(tmp_path: Path) -> None:
    found, drawn = deciding(tmp_path, "device", "payload_bytes")
    assert found == [each._replace(user_id=ONE_OF_THE_USERS, device=ANY, payload_bytes=0) for each in drawn]


def test_an_unknown_process_is_an_error(tmp_path: Path) -> None:
    document = {**_document(load_plan(tmp_path), tmp_path), "arrivals": {"kind": "bursts"}}
    with pytest.raises(ValueError, match="no arrival process 'bursts'"):
        list(planned_requests(document))
