"""An overload on a lab: priorities and tenants compete for slots, and *picks* judges who waited and who was shed."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.checkers import Evidence, Outcome
from lab.checkers import check as judged
from lab.lab import Lab
from lab.plugins.pickers.checker import CHECKER, explains
from lab.runs.evidence import evidence_of
from lab.runs.folder import RunFolder
from tests.lab_command import json_of, run_lab
from tests.labs import lab_up

SPEC = Path(__file__).resolve().parents[2] / "mutants" / "queues.toml"
LOAD = ("--rate", "100", "--duration", "4", "--turns", "4", "--users", "21", "--context", "tenant=ads*4,kids")
UNREAD = "gateway-passthrough"
SHED = ("queue-full", "waited-too-long")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The lab of few slots, with gateways that read prompts and that do not."""
    folder = tmp_path_factory.mktemp("queues")
    with lab_up(folder, spec=SPEC, picker="priority-bands", topologies=[f"+{UNREAD}"]) as lab:
        yield lab


@pytest.fixture(scope="module")
def evidence(lab: Lab) -> Evidence:
    """A run at more than twice what the replicas can serve; ads sends four times as much as kids."""
    return run_of(lab, "gateway")


def run_of(lab: Lab, topology: str, *more: str) -> Evidence:
    driven = json_of(run_lab(lab, "load", "--topology", topology, *LOAD, *more, "--json"))
    assert driven["claims"]["correctness"] == "valid", driven["verdicts"]
    return evidence_of(RunFolder(Path(driven["run_dir"])))


def shares_of(evidence: Evidence) -> dict[tuple[str, str], float]:
    """The share of requests that were answered, by use case and tenant."""
    sent = Counter((each.use_case, each.tenant) for each in evidence.records)
    answered = Counter((each.use_case, each.tenant) for each in evidence.records if each.status == "OK")
    print({key: f"{answered[key]} of {number}" for key, number in sent.items()})  # noqa: T201 (with -s)
    return {key: answered[key] / number for key, number in sent.items()}


def test_tenants_take_turns_by_requests_where_the_gateway_reads_no_prompts(lab: Lab) -> None:
    share = shares_of(run_of(lab, UNREAD))

    assert share["Chat", "kids"] > share["Chat", "ads"] + 0.1


def test_the_higher_priority_is_served_and_each_tenant_gets_its_share(evidence: Evidence) -> None:
    share = shares_of(evidence)

    # More is asked of Chat than there is room for, so hardly any Summaries are answered.
    assert share["Chat", "ads"] > share["Summaries", "ads"] + 0.1
    assert share["Chat", "kids"] > share["Summaries", "kids"] + 0.3
    # Of Chat, kids asks for less than half of the room, and ads for more than all of it.
    assert share["Chat", "kids"] > share["Chat", "ads"] + 0.1
    refused = {each.request_id for each in evidence.records if each.status == "RESOURCE_EXHAUSTED"}
    assert len(refused) > 40
    assert explains(evidence) == refused
    assert {each.status for each in evidence.records} == {"OK", "RESOURCE_EXHAUSTED"}
    verdicts = {each.checker: each for each in judged(evidence)}
    assert verdicts["answered"].outcome is Outcome.VALID
    assert f"and {len(refused)} of these were shed" in verdicts["picks"].summary


def test_a_fallback_that_answers_what_was_shed_is_explained(tmp_path: Path) -> None:
    rules, spec = tmp_path / "rules.yaml", tmp_path / "spec.toml"
    text = SPEC.with_name("queues.routes.yaml").read_text()
    for before, after in {
        "    priority: 10\n": "    priority: 10\n    fallback: [small-model@v1]\n",
        "\nmodels:\n": "\nmodels:\n  small-model: {versions: {v1: {cluster: ml-cluster-2}}}\n",
        "\nclusters:\n": "\nclusters:\n  ml-cluster-2: {replicas: 1}\n",
    }.items():
        assert before in text
        text = text.replace(before, after)
    rules.write_text(text)
    spec.write_text(SPEC.read_text().replace("queues.routes.yaml", str(rules)))
    with lab_up(tmp_path, spec=spec, picker="priority-bands") as lab:
        evidence = run_of(lab, "gateway", "--rate", "140")
    fallen_back = {each.request_id for each in evidence.records if each.source == "fallback"}

    assert fallen_back
    assert explains(evidence) >= fallen_back
    verdicts = {each.checker: each for each in judged(evidence)}
    assert verdicts["answered"].outcome is Outcome.VALID
    assert verdicts["policy"].outcome is Outcome.VALID
    gathered = copy.deepcopy(dict(evidence.gathered))
    [gateway] = gathered[CHECKER.name]["gateways"].values()
    gateway["waits"] = [each for each in gateway["waits"] if each["asked"]["request_id"] != min(fallen_back)]
    spoilt = replace(evidence, gathered=gathered)
    assert min(fallen_back) not in explains(spoilt)
    assert {each.checker: each for each in judged(spoilt)}["answered"].outcome is Outcome.INVALID


def _shed(gathered: dict[str, Any]) -> dict[str, Any]:
    """One of those that were shed last, which are this run's."""
    [gateway] = gathered["gateways"].values()
    found: dict[str, Any] = [each for each in gateway["waits"] if each["outcome"] in SHED][-3]
    return found


def _has_room(gathered: dict[str, Any]) -> None:
    _shed(gathered)["saw"][0].update(running=1, in_flight=1)


def _another_priority(gathered: dict[str, Any]) -> None:
    _shed(gathered)["asked"]["priority"] = 3


def _another_flow(gathered: dict[str, Any]) -> None:
    _shed(gathered)["asked"]["flow"] = "tenant/news"


def _without_outcome(gathered: dict[str, Any]) -> None:
    _shed(gathered)["outcome"] = "busy"


def _too_early(gathered: dict[str, Any]) -> None:
    [gateway] = gathered["gateways"].values()
    wait = next(each for each in gateway["waits"] if each["outcome"] == SHED[1])
    wait["ended_ns"] -= 200_000_000


def _never_waited(gathered: dict[str, Any]) -> None:
    [gateway] = gathered["gateways"].values()
    next(each for each in gateway["entries"] if each["queued"])["queued"] = 0


def _another_picker(gathered: dict[str, Any]) -> None:
    [gateway] = gathered["gateways"].values()
    for each in (*gateway["entries"], *gateway["waits"]):
        each["policy"] = "random"


@pytest.mark.parametrize(
    ("spoil", "outcome", "said"),
    [
        (_has_room, Outcome.INVALID, "it was shed though 127.0.0.1:"),
        (_another_priority, Outcome.INVALID, "went by priority 3, which"),
        (_another_flow, Outcome.INVALID, "counted it as of tenant/news, and it is of tenant/"),
        (_without_outcome, Outcome.INVALID, "the gateway's log does not say why, but 'busy'"),
        (_too_early, Outcome.INVALID, "it was shed for waiting too long after"),
        (_never_waited, Outcome.INVALID, "that waited"),
        (_another_picker, Outcome.UNKNOWN, "picker random lets requests wait, and has no second reader that judges it"),
    ],
)
def test_what_is_wrong_with_waits_is_found(
    evidence: Evidence, spoil: Callable[[dict[str, Any]], None], outcome: Outcome, said: str
) -> None:
    gathered = copy.deepcopy(dict(evidence.gathered))
    spoil(gathered[CHECKER.name])
    verdict = CHECKER.check(replace(evidence, gathered=gathered))

    assert verdict is not None
    assert verdict.outcome is outcome
    assert said in "; ".join([verdict.summary, *(each.message for each in verdict.violations)])


def test_a_shed_request_whose_caller_does_not_learn_why_is_found(evidence: Evidence) -> None:
    first = next(each for each in evidence.records if each.status == "RESOURCE_EXHAUSTED")
    records = [replace(each, message="busy") if each is first else each for each in evidence.records]
    spoilt = replace(evidence, records=records)
    verdict = CHECKER.check(spoilt)

    assert verdict is not None
    assert [each.request_id for each in verdict.violations] == [first.request_id]
    assert "and its caller does not learn that: 'busy'" in verdict.violations[0].message
    assert first.request_id not in explains(spoilt)
    [answered] = [each for each in judged(spoilt) if each.checker == "answered"]
    assert answered.outcome is Outcome.INVALID
