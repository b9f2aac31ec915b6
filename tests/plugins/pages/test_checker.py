"""The checker ``page``: an honest run is valid, and each way in which a page can be wrong is found."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from lab.checkers.plain_schedule import planned_requests
from lab.history.arrivals import NO_DEADLINE, Arrival
from lab.history.record import DEFAULTS, FIELDS
from lab.load.arrivals import Constant
from lab.load.plan import EnginePlan, UseCase, write_plan
from lab.page_call_tree import calls_of
from lab.plugins.pages import checker
from lab.plugins.pages.driver import Retries
from lab.plugins.pages.edge.probes import ATTACKS, REFUSED
from lab.plugins.pages.tree import tree_of
from tests.checkers.builders import make_evidence
from tests.load.builders import load_plan

RUN, MS = "1f3a90c2", 1_000_000
PAGES = {"homepage": [["HomepageRows"], ["search", "HomepageRows"]], "search": [["SearchRanking", "SearchRanking"]]}
CALLS = calls_of(PAGES, "homepage")
PAGE_MS, STEP_MS, TIMEOUT_MS, NO_COPY = 400, 100, 900, False


@dataclass
class Run:
    """What a run leaves behind; its pages take 100 ms at models in each stage."""

    plan: dict[str, Any]
    document: dict[str, list[Any]]
    arrivals: list[Arrival]

    def judge(self) -> Any:
        rows = [[call[name] for name in FIELDS] for call in self.document["calls"]]
        evidence = make_evidence([], arrivals=self.arrivals)
        gathered = {checker.NAME: {**self.document, "calls": rows}}
        return checker.check(replace(evidence, plan_document=self.plan, gathered=gathered))

    def arrival(self, number: int, **changes: Any) -> None:
        self.arrivals[number] = self.arrivals[number]._replace(**changes)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    settings = {
        "page": "homepage",
        "timeout_ms": TIMEOUT_MS,
        "run": RUN,
        "calls": [list(each) for each in CALLS],
        "units": {"homepage": "", "search": ""},
    }
    plan = load_plan(
        tmp_path,
        use_cases=(UseCase("HomepageRows", "ranking.v1"),),
        arrivals=Constant(25, 1.0),
        engine=EnginePlan(name="pages", paced_by="pages", settings=settings),
    )
    write_plan(plan, tmp_path / "plan.json")
    made = Run(json.loads((tmp_path / "plan.json").read_text()), {"pages": [], "built": [], "calls": []}, [])
    as_drawn = {**made.plan, "engine": {**made.plan["engine"], "as_drawn": True}}
    for number, wanted in enumerate(planned_requests(as_drawn)):
        add_page(made, number, wanted._asdict())
    return made


def add_page(run: Run, number: int, wanted: dict[str, Any]) -> None:
    began = 1_000_000_000_000 + number * 40 * MS
    fields = {
        **dict.fromkeys(FIELDS, ""),
        **DEFAULTS,
        **{name: wanted[name] for name in ("user_id", "device", "country", "tenant", "traffic_origin")},
        "sequence": number,
        "request_id": f"{RUN}-{number:08x}",
        "status": "OK",
        "intended_ns": began,
        "sent_ns": began,
        "done_ns": began + PAGE_MS * MS,
    }
    sections: list[dict[str, Any]] = []
    inner: list[dict[str, Any]] = []
    for caller, use_case, place in CALLS:
        name, stage = f"{RUN}.{caller}-{number:08x}.{place}", place.count(".") > 1 or place.startswith("1")
        sent = began + (1 + stage * STEP_MS) * MS
        call = {**fields, "sequence": 0, "request_id": name, "caller": caller, "use_case": use_case}
        call |= {"sent_ns": sent, "done_ns": sent + STEP_MS * MS, "replica": "a", "items_digest": f"of {name}"}
        run.document["calls"].append(call)
        left = TIMEOUT_MS - 1 - stage * STEP_MS
        run.arrivals.append(
            Arrival(name, "a", "rows.v1", NO_COPY, "", "", sent, sent + STEP_MS * MS, "OK", remaining_ms=left)
        )
        section = {"id": name, "use_case": use_case, "error": "", "source": "model", "replica": "a"}
        (inner if caller == "search" else sections).append({**section, "items_digest": call["items_digest"]})
    sections.insert(1, {"id": f"{RUN}-{number:08x}.1.0", "use_case": "search", "error": "", "sections": inner})
    run.document["pages"].append({**fields, "sections": sections})
    part = {"status": "OK", "missing": []}
    own = {"id": fields["request_id"], "caller": "homepage", "left_ms": TIMEOUT_MS, "sent_ns": began}
    of_search = {"id": f"{RUN}-{number:08x}.1.0", "caller": "search", "left_ms": 799, "sent_ns": began + 101 * MS}
    run.document["built"] += [{**part, **own}, {**part, **of_search}]


def test_an_honest_run_is_valid(run: Run) -> None:
    verdict = run.judge()
    assert (verdict.outcome, verdict.violations) == ("valid", ())
    assert verdict.summary == "25 pages of 4 calls, 25 answered; p50 400.0, p99 400.0 ms; 100 attempts for 100 calls"


def _of_another_user(run: Run) -> None:
    run.document["pages"][3]["sections"][0]["items_digest"] = "of another"


def _of_another_page(run: Run) -> None:
    run.document["pages"][3]["sections"][0] = run.document["pages"][4]["sections"][0]


def _twice(run: Run) -> None:
    run.document["pages"][3]["sections"][2] = run.document["pages"][3]["sections"][0]


def _left_out(run: Run) -> None:
    del run.document["pages"][3]["sections"][1]["sections"][1]


def _not_asked_for(run: Run) -> None:
    del run.document["pages"][3]


def _as_another_user(run: Run) -> None:
    run.document["pages"][3]["user_id"] = "u-1"


def _call_as_another_user(run: Run) -> None:
    run.document["calls"][3]["user_id"] = "u-1"


def _call_of_another_device(run: Run) -> None:
    run.document["calls"][3]["device"] = "fridge"


def _another_use_case(run: Run) -> None:
    run.document["calls"][0]["use_case"] = "SearchRanking"


def _in_anothers_name(run: Run) -> None:
    run.document["calls"][1]["caller"] = "homepage"


def _one_call_too_many(run: Run) -> None:
    run.document["calls"].append({**run.document["calls"][0], "request_id": f"{RUN}.homepage-00000000.7.0"})


def _of_no_page(run: Run) -> None:
    run.document["calls"].append({**run.document["calls"][0], "request_id": f"{RUN}.homepage-00000099.0.0"})


def _made_up(run: Run) -> None:
    del run.document["calls"][0]


def _hidden_failure(run: Run) -> None:
    run.document["calls"][0]["status"] = "UNAVAILABLE"


def _cancelled_without_reason(run: Run) -> None:
    run.document["calls"][0]["status"] = "CANCELLED"
    run.document["pages"][0]["sections"][0]["error"] = "cancelled"


def _no_deadline(run: Run) -> None:
    run.arrival(7, remaining_ms=NO_DEADLINE)


def _more_time_than_the_page(run: Run) -> None:
    run.arrival(7, remaining_ms=10_000)


def _part_with_more_time(run: Run) -> None:
    run.document["built"][1]["left_ms"] = 5_000


def _time_again_at_each_hop(run: Run) -> None:
    for number in range(len(run.arrivals)):
        run.arrival(number, remaining_ms=TIMEOUT_MS - 1)
    for each in run.document["built"]:
        each["left_ms"] = TIMEOUT_MS - 1


def _sent_after_the_deadline(run: Run) -> None:
    run.document["calls"][3]["sent_ns"] += 2_000 * MS


def _goes_on_after_a_cancel(run: Run) -> None:
    run.document["pages"][0] |= {
        "status": "CANCELLED",
        "sections": None,
        "done_ns": run.arrivals[0].ended_ns - 300 * MS,
    }


def _never_ends(run: Run) -> None:
    run.document["pages"][0] |= {"status": "DEADLINE_EXCEEDED", "sections": None}
    run.arrival(0, ended_ns=0, status="")


def _retried_at_each_hop(run: Run) -> None:
    run.arrivals += run.arrivals[:20]


@pytest.mark.parametrize(
    ("bug", "objection"),
    [
        (_of_another_user, "has other items than its call brought"),
        (_of_another_page, "is of another page"),
        (_twice, "not those planned"),
        (_left_out, "not those planned"),
        (_not_asked_for, "was planned, and has no record"),
        (_as_another_user, "another user_id than planned"),
        (_call_as_another_user, "another user_id than the page"),
        (_call_of_another_device, "another device than the page"),
        (_another_use_case, "homepage asked for SearchRanking at 0.0"),
        (_in_anothers_name, "homepage asked for SearchRanking at 1.0.0.0"),
        (_one_call_too_many, "homepage asked for HomepageRows at 7.0"),
        (_of_no_page, "belongs to a page that was not asked for"),
        (_made_up, "is of no call that its caller made"),
        (_hidden_failure, "and its call ended as UNAVAILABLE"),
        (_cancelled_without_reason, "was answered, and its call 0.0 was cancelled"),
        (_no_deadline, "without a deadline"),
        (_more_time_than_the_page, "10000 ms left"),
        (_part_with_more_time, "search"),
        (_time_again_at_each_hop, "had the time again"),
        (_sent_after_the_deadline, "after the page's deadline"),
        (_goes_on_after_a_cancel, "went on for 300 ms"),
        (_never_ends, "went on to the end of the run"),
        (_retried_at_each_hop, "120 attempts for 100 calls"),
    ],
)
def test_each_bug_is_found(run: Run, bug: Callable[[Run], None], objection: str) -> None:
    bug(run)
    verdict = run.judge()
    assert verdict.outcome == "invalid"
    assert any(objection in each.message for each in verdict.violations), [each.message for each in verdict.violations]


def through_edge(run: Run) -> None:
    run.plan["engine"]["settings"]["edge"] = {"unit": "edge", "address": ""}
    run.document["refusals"] = dict.fromkeys(ATTACKS, REFUSED)  # type: ignore[assignment]
    for page in run.document["pages"]:
        page["via"] = "2 edge (edge)"


def test_pages_that_have_passed_an_edge_which_refuses_every_attack_are_valid(run: Run) -> None:
    through_edge(run)
    assert run.judge().outcome == "valid"


def test_an_edge_that_was_passed_by_or_lets_an_attack_in_is_found(run: Run) -> None:
    through_edge(run)
    run.document["pages"][3]["via"] = ""
    run.document["refusals"]["an expired token"] = "OK"  # type: ignore[call-overload]
    del run.document["refusals"]["no token"]  # type: ignore[arg-type]
    assert [each.message for each in run.judge().violations] == [
        "edge answered a request with no token by None, not by UNAUTHENTICATED",
        "edge answered a request with an expired token by OK, not by UNAUTHENTICATED",
        f"page #3 ({RUN}-00000003) was answered, and has not passed edge",
    ]


def test_a_call_leads_to_the_tree_of_its_page(run: Run) -> None:
    rows = [[call[name] for name in FIELDS] for call in run.document["calls"]]
    for each in run.document["built"]:
        each["done_ns"] = each["sent_ns"] + STEP_MS * MS
    evidence = {**run.document, "calls": rows}

    tree = tree_of(evidence, run.plan, f"{RUN}.search-00000003.1.0.0.1")

    assert tree is not None
    assert tree == tree_of(evidence, run.plan, f"{RUN}-00000003")
    assert (tree["id"], tree["user_id"]) == (f"{RUN}-00000003", run.document["pages"][3]["user_id"])
    assert [each["name"] for each in tree["steps"]] == ["HomepageRows", "search", "HomepageRows"]
    assert [each["began_ms"] for each in tree["steps"][1]["steps"]] == [101.0, 101.0]
    assert tree_of(evidence, run.plan, f"{RUN}-00000099") is None
    assert tree_of(evidence, run.plan, "another-00000003") is None


def test_a_run_may_allow_more_retries_and_too_few_calls_show_nothing(run: Run) -> None:
    run.arrivals += run.arrivals[:20]
    run.plan["engine"]["settings"]["retries"] = 20
    assert run.judge().outcome == "valid"
    run.plan["engine"]["settings"]["retries"] = 19
    assert run.judge().outcome == "invalid"
    for number in range(24, 19, -1):
        for each in ("pages", "calls", "built"):
            del run.document[each][number * len(run.document[each]) // (number + 1) :]
    run.plan["arrivals"]["rate"] = 20
    verdict = run.judge()
    assert (verdict.outcome, verdict.summary[:35]) == ("unknown", "too few calls to judge their retrie")


def test_pages_take_no_more_retries_than_their_calls_bring() -> None:
    retries, drawn = Retries(10, 12), random.Random(7)  # noqa: S311 (nothing secret)
    made = under_way = 0
    waiting: list[int] = []
    for calls in range(12, 12 * 2_000, 12):
        waiting.append(retries.take())
        if drawn.random() < 0.8:  # else several are built at the same time
            while waiting:
                made += (spent := drawn.randint(0, taken := waiting.pop()))
                retries.give_back(taken - spent, 12)
        under_way = max(under_way, len(waiting))
        assert made <= calls / 10
    assert under_way > 2
    assert made > 0.08 * 12 * 2_000


def test_a_section_that_failed_is_no_objection(run: Run) -> None:
    run.document["calls"][0] |= {"status": "UNAVAILABLE", "items_digest": "", "replica": ""}
    run.document["pages"][0]["sections"][0] |= {"error": "UNAVAILABLE: gone", "items_digest": "", "replica": ""}
    verdict = run.judge()
    assert (verdict.outcome, verdict.violations) == ("valid", ())
    assert verdict.summary.endswith("1 with a section missing")


def test_a_part_that_failed_whole_is_no_objection(run: Run) -> None:
    run.document["pages"][0]["sections"][1] = {
        "id": f"{RUN}-00000000.1.0",
        "use_case": "search",
        "error": "UNAVAILABLE: gone",
        "items_digest": "",
        "replica": "",
    }
    assert run.judge().outcome == "valid"


def test_a_journal_that_is_missing_is_unknown(run: Run) -> None:
    run.document["built"] = [each for each in run.document["built"] if each["caller"] != "search"]
    run.document["calls"] = [each for each in run.document["calls"] if each["caller"] != "search"]
    for page in run.document["pages"]:
        page["sections"][1] = {**page["sections"][1], "error": "lost", "items_digest": "", "replica": ""}
        del page["sections"][1]["sections"]
    verdict = run.judge()
    assert (verdict.outcome, verdict.violations) == ("unknown", ())
    assert "no journal of search" in verdict.summary


def test_no_answered_page_is_unknown_and_a_run_without_pages_is_not_judged(run: Run) -> None:
    run.document = {"pages": [], "built": [], "calls": []}
    run.plan["arrivals"]["rate"] = 0.001
    assert run.judge().outcome == "unknown"
    assert checker.check(make_evidence([])) is None
