"""Conversations on a lab: judged pick by pick, and wrong where the evidence is; round-robin's hit rate."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab import CHECKOUT
from lab.checkers import Evidence, Outcome, Verdict
from lab.checkers import check as judged
from lab.lab import Lab
from lab.load.trace import read_trace
from lab.plugins.pickers.checker import CHECKER, explains
from lab.plugins.workshop.replicas import CHANGES, noticed
from lab.plugins.workshop.replicas import judged as judged_in_workshop
from lab.runs.evidence import evidence_of
from lab.runs.folder import RunFolder
from lab.spec import SIZES
from tests.lab_command import json_of, refusal, run_lab
from tests.labs import lab_up

CHAT = ("--topology", "gateway", "--rate", "40", "--duration", "3", "--streams", "100")
EXAMPLE = CHECKOUT / "docs" / "examples" / "own_picker.py"
TRACE = CHECKOUT / "docs" / "examples" / "conversation.jsonl"


def run_of(lab: Lab, *options: str) -> RunFolder:
    driven = json_of(run_lab(lab, "load", *options, "--json"))
    assert driven["claims"]["correctness"] == "valid", driven["verdicts"]
    return RunFolder(Path(driven["run_dir"]))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The lab of token models, whose replicas are picked by uncached tokens in flight."""
    with lab_up(tmp_path_factory.mktemp("tokens"), spec=SIZES["tokens"], picker="uncached-tokens") as lab:
        yield lab


@pytest.fixture(scope="module")
def chat(lab: Lab) -> RunFolder:
    """A run of conversations with adapters and tenants."""
    return run_of(lab, *CHAT, "--turns", "3", "--users", "9", "--loras", "2", "--context", "tenant=a,b")


@pytest.fixture(scope="module")
def evidence(chat: RunFolder) -> Evidence:
    """Its evidence."""
    return evidence_of(chat)


def test_every_pick_and_every_hit_is_judged(evidence: Evidence) -> None:
    verdict = CHECKER.check(evidence)

    assert verdict is not None
    assert verdict.outcome is Outcome.VALID
    prompts = len(evidence.records)
    assert f"{prompts} prompts" in verdict.summary
    assert f"{prompts} picks by uncached-tokens" in verdict.summary
    assert evidence.skewed
    assert all(0 < each.first_item_ns < each.done_ns - each.sent_ns for each in evidence.records)


def test_the_workshop_shows_what_is_noticed_and_what_is_not(chat: RunFolder) -> None:
    verdicts = judged_in_workshop(chat.path)

    assert verdicts.keys() == {"nothing", *CHANGES}
    assert verdicts.keys() - noticed(verdicts) == {"nothing", "every queue is three longer than was read"}


def _of_run(gathered: dict[str, Any], number: int) -> dict[str, Any]:
    [gateway] = gathered["gateways"].values()
    picks: list[dict[str, Any]] = gateway["entries"]
    return [each for each in picks if "warm-up" not in each["asked"]["request_id"]][number]


def _another(gathered: dict[str, Any]) -> None:
    pick = _of_run(gathered, 20)
    pick["picked"] = next(each["address"] for each in pick["seen"] if each["address"] != pick["picked"])


def _lost(gathered: dict[str, Any]) -> None:
    pick = _of_run(gathered, 20)
    [gateway] = gathered["gateways"].values()
    gateway["entries"].remove(pick)


def _blind(gathered: dict[str, Any]) -> None:
    [gateway] = gathered["gateways"].values()
    unseen = _of_run(gathered, 0)["seen"][2]["address"]
    gateway["entries"] = [each for each in gateway["entries"] if each["picked"] != unseen]
    for pick in gateway["entries"]:
        pick["seen"] = [each for each in pick["seen"] if each["address"] != unseen]


def _miscounted(gathered: dict[str, Any]) -> None:
    _of_run(gathered, 20)["seen"][0]["in_flight"] += 1


def _tenant(gathered: dict[str, Any]) -> None:
    _of_run(gathered, 20)["asked"]["hashes"] = "00" * 8 * 24


def _claimed(gathered: dict[str, Any]) -> None:
    entry = next(each for its in gathered["replicas"].values() for each in its["entries"] if each["cached"])
    entry["cached"] += 16


def _shed(gathered: dict[str, Any]) -> None:
    entry = next(iter(gathered["replicas"].values()))["entries"][-1]
    entry["shed"] = "runs 8 requests and has 64 waiting, its queue_limit"


def _forgotten(gathered: dict[str, Any]) -> None:
    next(iter(gathered["replicas"].values()))["dropped"] = 3


def _lied(gathered: dict[str, Any]) -> None:
    for its in gathered["replicas"].values():
        for each in its["entries"]:
            each["began_ns"] += 1_000_000


def _overtaken(gathered: dict[str, Any]) -> None:
    [gateway] = gathered["gateways"].values()
    latest: dict[tuple[str, str], dict[str, Any]] = {}
    for pick in gateway["entries"]:
        key = pick["asked"]["session"], pick["picked"]
        if key[0] and key in latest:
            break
        latest[key] = pick
    first, second = latest[key], pick
    first["at_ns"] -= 10_000_000_000
    ids = [each["asked"]["request_id"] for each in (first, second)]
    entries = {each["request_id"]: each for its in gathered["replicas"].values() for each in its["entries"]}
    one, other = map(entries.__getitem__, ids)
    one["arrived"], other["arrived"] = other["arrived"], one["arrived"]


def _other_objective(gathered: dict[str, Any]) -> None:
    _of_run(gathered, 20)["asked"]["slo_first_ms"] = 30.0


def _slower(gathered: dict[str, Any]) -> None:
    _of_run(gathered, 20)["seen"][0]["speed"][2] *= 2


def _restarted(gathered: dict[str, Any]) -> None:
    [gateway] = gathered["gateways"].values()
    gateway["began_ns"], gateway["entries"] = time.time_ns(), []


def _outside(gathered: dict[str, Any]) -> None:
    [gateway] = gathered["gateways"].values()
    for each in gateway["entries"]:
        each["policy"] = "mostly-one"


@pytest.mark.parametrize(
    ("spoil", "outcome", "said"),
    [
        (_another, Outcome.INVALID, "was picked"),
        (_lost, Outcome.INVALID, "and nothing was picked"),
        (_blind, Outcome.INVALID, "did not see"),
        (_miscounted, Outcome.INVALID, "the picker counted"),
        (_tenant, Outcome.INVALID, "the picker saw another blocks than was asked"),
        (_claimed, Outcome.INVALID, "tokens were cached, and"),
        (_shed, Outcome.INVALID, "that it has room for"),
        (_lied, Outcome.INVALID, "of tokens, cached tokens and ms in the queue, and the journal of"),
        (_overtaken, Outcome.INVALID, "before an earlier one of its conversation"),
        (_other_objective, Outcome.INVALID, "went by an SLO of (30.0, 2.0) ms, which Chat did not have"),
        (_slower, Outcome.INVALID, "report a speed of"),
        (_restarted, Outcome.UNKNOWN, "was started again during the run"),
        (_forgotten, Outcome.UNKNOWN, "has dropped the first 3 entries"),
        (_outside, Outcome.UNKNOWN, "picker mostly-one has no second reader"),
    ],
)
def test_what_is_wrong_with_the_evidence_is_found(
    evidence: Evidence, spoil: Callable[[dict[str, Any]], None], outcome: Outcome, said: str
) -> None:
    verdict = _judged(evidence, spoil)

    assert verdict.outcome is outcome
    assert said in "; ".join([verdict.summary, *(each.message for each in verdict.violations)])


def test_a_pick_of_a_replica_that_had_gone_is_found(evidence: Evidence) -> None:
    assert evidence.registrations is not None
    began_ns = min(each.sent_ns for each in evidence.records)
    first, *others = evidence.registrations.replicas
    gone = replace(first, from_ns=began_ns - 20_000_000_000, until_ns=began_ns - 10_000_000_000)
    registrations = replace(evidence.registrations, replicas=[gone, *others])

    verdict = CHECKER.check(replace(evidence, registrations=registrations))

    assert verdict is not None
    assert {each.message for each in verdict.violations} == {
        f"uncached-tokens picked {first.replica}, which was no longer registered"
    }


def _judged(evidence: Evidence, spoil: Callable[[dict[str, Any]], None]) -> Verdict:
    gathered = copy.deepcopy(dict(evidence.gathered))
    spoil(gathered[CHECKER.name])
    verdict = CHECKER.check(replace(evidence, gathered=gathered))
    assert verdict is not None
    return verdict


def test_conversations_need_room_for_a_question_and_models_that_generate_tokens(lab: Lab) -> None:
    assert "leaves none for a question" in refusal(run_lab(lab, "load", "--share", "1"), status=3)
    assert "block: is not known" in refusal(_spec(lab, "block = 3"))


def _spec(lab: Lab, line: str) -> Any:
    file = lab.folder.parent / "wrong.toml"
    text = SIZES["tokens"].read_text().replace("blocks = 512", line)
    file.write_text(text.replace("tokens.routes.yaml", str(SIZES["tokens"].with_name("tokens.routes.yaml"))))
    return run_lab(lab, "up", "--spec", str(file))


def test_prompts_and_answers_are_as_long_as_a_trace_has_them_and_hits_are_as_it_says(lab: Lab) -> None:
    rows = list(read_trace(TRACE))

    run = run_of(lab, *CHAT[:2], "--prompts", str(TRACE), "--arrivals", f"trace:{TRACE}", "--streams", "50")
    more = run_lab(lab, "load", *CHAT[:2], "--prompts", str(TRACE), "--rate", "100", "--duration", "3")

    records = sorted(run.history, key=lambda each: each.sequence)
    entries = {
        each["request_id"]: each for its in run.gathered["picks"]["replicas"].values() for each in its["entries"]
    }
    usage = [list(map(float, each.usage.split()[:2])) for each in records]
    assert [tokens for tokens, _ in usage] == [each.prompt_tokens for each in rows]
    assert [len(each.items.split()) for each in records if each.streamed] == [
        row.answer_tokens for row, each in zip(rows, records, strict=True) if each.streamed
    ]
    # Of the tokens that one cache without a limit would have, four caches have fewer, and the lab's blocks are smaller.
    seen: set[int] = set()
    most = 0
    for row in rows:
        most += 512 * sum(each in seen for each in row.blocks)
        seen.update(row.blocks)
    assert 0.1 * most < sum(cached for _, cached in usage) <= 1.1 * most
    assert entries.keys() >= {each.request_id for each in records}
    assert more.returncode == 3
    assert f"--prompts: has {len(rows)} requests, and the run has" in more.stderr


def test_round_robin_finds_a_system_prompt_as_often_as_its_closed_form_says(tmp_path: Path) -> None:
    """Each of R replicas finds a system prompt from its second request for it on.

    The number of different ones among n requests, of which each is g with probability p(g), has the mean
    sum(1 - q(g)) with q(g) = (1 - p(g))^n, and the variance
    sum(q(g) - q(g)^2) + sum over g ≠ h of (1 - p(g) - p(h))^n - q(g) q(h).
    """
    prompts, replicas, blocks = 12, 4, 12
    options = ("--turns", "1", "--system-prompts", str(prompts), "--skew", "0.5", "--prompt-tokens", "200")
    with lab_up(tmp_path, spec=SIZES["tokens"]) as lab:
        run = run_of(lab, *CHAT, *options, "--share", "0.96", "--seed", "3")
    sent = {each.request_id for each in run.history}
    entries = {
        name: [each for each in its["entries"] if each["request_id"] in sent]
        for name, its in run.gathered["picks"]["replicas"].items()
    }

    mean = variance = 0.0
    weights = [(number + 1) ** -0.5 for number in range(prompts)]
    p = [each / sum(weights) for each in weights]
    for its in entries.values():
        n = len(its)
        q = [(1 - each) ** n for each in p]
        mean += sum(1 - each for each in q)
        variance += sum(each - each**2 for each in q)
        variance += sum((1 - p[g] - p[h]) ** n - q[g] * q[h] for g in range(prompts) for h in range(prompts) if g != h)
    every = sum(map(len, entries.values()))
    missed = sum(each["cached"] != 16 * blocks for its in entries.values() for each in its)

    assert len(entries) == replicas
    assert max(map(len, entries.values())) - min(map(len, entries.values())) <= 2  # they take turns
    assert abs(missed - mean) < 5 * math.sqrt(variance), (missed, mean, variance)
    assert 0.4 < 1 - missed / every < 1


def test_replicas_are_picked_by_the_slo_that_the_route_table_has(tmp_path: Path) -> None:
    with lab_up(tmp_path, spec=SIZES["tokens"], picker="slo") as lab:
        run = run_of(lab, *CHAT, "--users", "9")
    picks = [each for its in run.gathered[CHECKER.name]["gateways"].values() for each in its["entries"]]
    verdict = CHECKER.check(evidence_of(run))

    assert {(each["asked"]["slo_first_ms"], each["asked"]["slo_next_ms"]) for each in picks} == {(25, 2)}
    assert verdict is not None
    assert "picks by slo" in verdict.summary


def test_a_refusal_of_a_model_whose_queue_was_full_is_no_failure_and_any_other_is(tmp_path: Path) -> None:
    spec = tmp_path / "full.toml"
    text = (
        SIZES["tokens"].read_text().replace("tokens.routes.yaml", str(SIZES["tokens"].with_name("tokens.routes.yaml")))
    )
    slower = {"time_scale = 0.1": "time_scale = 0.5", "max_num_seqs = 8": "max_num_seqs = 1"}
    for before, after in {**slower, "queue_limit = 64": "queue_limit = 1"}.items():  # half of what is offered has room
        text = text.replace(before, after)
    spec.write_text(text)
    with lab_up(tmp_path, spec=spec, picker="queue-depth") as lab:
        evidence = evidence_of(run_of(lab, *CHAT, "--users", "9"))
    refused = {each.request_id for each in evidence.records if each.status == "RESOURCE_EXHAUSTED"}

    assert refused
    assert explains(evidence) == refused
    assert _answered(evidence) is Outcome.VALID
    gathered = copy.deepcopy(dict(evidence.gathered))
    for its in gathered[CHECKER.name]["replicas"].values():
        its["entries"] = [each for each in its["entries"] if not each["shed"] or each["request_id"] != min(refused)]
    assert explains(replace(evidence, gathered=gathered)) == refused - {min(refused)}
    assert _answered(replace(evidence, gathered=gathered)) is Outcome.INVALID
    gathered[CHECKER.name]["settings"]["queue_limit"] = 2
    assert not explains(replace(evidence, gathered=gathered))


def _answered(evidence: Evidence) -> Outcome:
    [found] = [each.outcome for each in judged(evidence) if each.checker == "answered"]
    return found
