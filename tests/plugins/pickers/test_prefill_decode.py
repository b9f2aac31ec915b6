"""Prefill and decode apart on a lab: who computed each prompt, what it took, and what is noticed if nobody did."""

from __future__ import annotations

import copy
import json
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from lab.checkers import Evidence, Outcome
from lab.lab import Lab
from lab.plugins.pickers.checker import CHECKER
from lab.plugins.pickers.prefill_decode import BOUND
from lab.routing.headers import PREFILLER
from lab.runs.evidence import evidence_of
from lab.runs.folder import RunFolder
from lab.runtime.identities import Identities
from lab.spec import SIZES
from lab.transport import Security, open_blocking_channel
from lab.transport.security import MTLS
from models.proto.control.v1 import picks_pb2, picks_pb2_grpc, prefill_pb2_grpc
from models.proto.generation.v1 import generation_pb2, generation_pb2_grpc
from tests.lab_command import json_of, run_lab
from tests.labs import address_of, lab_up
from tests.plugins.pickers.test_load import CHAT, run_of

SETTINGS = "prefill_replicas = 2\nkv_transfer_ms = 0.2\n"
PREFILL, DECODE = {"ml-cluster-1-a", "ml-cluster-1-b"}, {"ml-cluster-1-c", "ml-cluster-1-d"}
NEW, TOKENS = ("--share", "0", "--turns", "1"), 512
"""Options of conversations none of whose tokens is cached anywhere, and their length."""
LEAST_MS = 0.1 * (20 + 0.35 * TOKENS) + 0.1 * 0.2 * TOKENS
"""A first token by both formulas: 19.9 ms at the one replica, and 10.2 ms for the transfer."""

Gathered = dict[str, Any]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab of which two replicas prefill and two decode, secured."""
    folder = tmp_path_factory.mktemp("prefill")
    routes = SIZES["tokens"].with_name("tokens.routes.yaml")
    spec = folder / "prefill.toml"
    text = SIZES["tokens"].read_text().replace(routes.name, str(routes))
    spec.write_text(f'picker = "prefill-decode"\n{text}{SETTINGS}')
    with lab_up(folder, spec=spec) as lab:
        yield lab


@pytest.fixture(scope="module")
def evidence(lab: Lab) -> Evidence:
    """Of a run of conversations some of whose prompts are mostly cached where they decode."""
    return evidence_of(run_of(lab, *CHAT, "--turns", "4", "--users", "7", "--context", "tenant=a,b"))


def picks_of(gathered: Mapping[str, Any]) -> list[dict[str, Any]]:
    [gateway] = gathered["gateways"].values()
    return [each for each in gateway["entries"] if each["status"] == "OK"]


def test_each_prompt_is_prefilled_by_the_replica_that_was_picked_for_it(evidence: Evidence) -> None:
    gathered: Mapping[str, Any] = evidence.gathered[CHECKER.name]
    asked = {each.request_id for each in evidence.records}
    apart = {each["asked"]["request_id"] for each in picks_of(gathered) if each["prefiller"]} & asked
    worked = {
        name: [each for each in its["entries"] if each["request_id"] in asked]
        for name, its in gathered["replicas"].items()
    }
    verdict = CHECKER.check(evidence)

    assert 0 < len(apart) < len(asked)
    assert {name for name, its in worked.items() if any(each["work"] for each in its)} <= PREFILL
    assert {name for name, its in worked.items() if not all(each["work"] for each in its)} <= DECODE
    assert {each["request_id"] for name in PREFILL for each in worked[name]} == apart
    assert verdict is not None
    assert verdict.outcome is Outcome.VALID
    assert verdict.summary.startswith(f"{len(asked)} prompts")
    assert verdict.summary.endswith(f"; {len(apart)} prefilled by another replica")


def test_new_prompts_take_the_time_of_prefill_and_transfer(lab: Lab) -> None:
    evidence = evidence_of(run_of(lab, *CHAT, *NEW, "--users", "20", "--rate", "10", "--duration", "4"))
    first_ms = [each.first_item_ns / 1e6 for each in evidence.records]
    verdict = CHECKER.check(evidence)

    assert verdict is not None
    assert verdict.summary.endswith(f"; {len(evidence.records)} prefilled by another replica")
    assert TOKENS > BOUND
    assert min(first_ms) >= LEAST_MS, (min(first_ms), LEAST_MS)
    assert statistics.median(first_ms) < 3 * LEAST_MS  # a busy machine adds, and the median leaves the worst out


def _apart(gathered: Gathered) -> dict[str, Any]:
    return next(each for each in picks_of(gathered)[::-1] if each["prefiller"])


def _entries(gathered: Gathered, address: str) -> list[dict[str, Any]]:
    [its] = [each["entries"] for each in gathered["replicas"].values() if each["address"] == address]
    entries: list[dict[str, Any]] = its
    return entries


def _work(gathered: Gathered, pick: dict[str, Any], at: str) -> dict[str, Any]:
    name = pick["asked"]["request_id"]
    return next(each for each in _entries(gathered, pick[at]) if each["request_id"] == name)


def _decode_only(gathered: Gathered) -> None:
    """As when a replica ignores the header: no entry at the other one."""
    pick = _apart(gathered)
    _entries(gathered, pick["prefiller"]).remove(_work(gathered, pick, "prefiller"))


def _shed(gathered: Gathered) -> None:
    """As when the other one is full, and the one that decodes does not say so."""
    _work(gathered, _apart(gathered), "prefiller").update(shed="runs 8 requests", began=0)


def _not_handed_on(gathered: Gathered) -> None:
    _work(gathered, _apart(gathered), "picked")["prefiller"] = ""


def _unasked(gathered: Gathered) -> None:
    pick = _apart(gathered)
    pick["prefiller"] = ""


def _fell_back(gathered: Gathered) -> None:
    _work(gathered, _apart(gathered), "picked")["fell_back"] = "UNAVAILABLE: no connection"


def _elsewhere(gathered: Gathered) -> None:
    pick = _apart(gathered)
    pick["prefiller"] = next(
        each["address"] for each in pick["seen"] if each["prefills"] and each["address"] != pick["prefiller"]
    )


def _other_role(gathered: Gathered) -> None:
    for each in _apart(gathered)["seen"]:
        each["prefills"] = not each["prefills"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_decode_only, "its journal has no such request: it decoded only"),
        (_shed, "its journal has no such request: it decoded only"),
        (_not_handed_on, "was to have itself prefill it, and ml-cluster-1-"),
        (_unasked, "prefilled it, and no pick names it"),
        (_fell_back, "prefilled it itself, as the replica that was to: UNAVAILABLE: no connection"),
        (_elsewhere, "its journal has no such request: it decoded only"),
        (_other_role, "in another role: it"),
    ],
)
def test_what_was_not_prefilled_as_picked_is_found(
    evidence: Evidence, spoil: Callable[[Gathered], None], said: str
) -> None:
    gathered = copy.deepcopy(dict(evidence.gathered))
    spoil(gathered[CHECKER.name])
    verdict = CHECKER.check(replace(evidence, gathered=gathered))

    assert verdict is not None
    assert verdict.outcome is Outcome.INVALID
    assert any(said in each.message for each in verdict.violations), verdict.violations


def test_without_its_prefill_replicas_a_lab_still_answers_and_its_run_says_so(lab: Lab) -> None:
    with lab.faults.injected("kill", "ml-cluster-1-a"), lab.faults.injected("kill", "ml-cluster-1-b"):
        driven = json_of(run_lab(lab, "load", *CHAT, "--json"), statuses=(2,))
    evidence = evidence_of(RunFolder(Path(driven["run_dir"])))
    verdict = CHECKER.check(evidence)

    assert all(each.status == "OK" for each in evidence.records)
    assert verdict is not None
    assert verdict.outcome is Outcome.UNKNOWN
    assert "; 0 prefilled by another replica" in verdict.summary


def test_a_forged_prefill_replica_reaches_no_model(lab: Lab) -> None:
    request = generation_pb2.GenerateRequest(prompt=range(64), max_tokens=2)
    request.envelope.use_case, request.envelope.request_id = "Chat", "forged-1"
    security = Security(MTLS, str(Identities(lab.folder).of("homepage")))
    with open_blocking_channel(address_of(lab, "gateway-1"), security) as channel:
        forged = ((PREFILLER, address_of(lab, "ml-cluster-1-a")),)
        generation_pb2_grpc.GenerationStub(channel).Generate(request, metadata=forged, timeout=10)

    found = {
        name: [each for each in journal(lab, name) if each["request_id"] == "forged-1"]
        for name in sorted(PREFILL | DECODE)
    }
    assert [each["prefiller"] for its in found.values() for each in its] == [""]
    assert not any(found[name] for name in PREFILL)


def test_only_replicas_may_ask_for_a_prefill(lab: Lab) -> None:
    request = generation_pb2.GenerateRequest(prompt=range(64), max_tokens=1)
    for unit in ("homepage", "gateway-1"):
        security = Security(MTLS, str(Identities(lab.folder).of(unit)))
        with (
            open_blocking_channel(address_of(lab, "ml-cluster-1-a"), security) as channel,
            pytest.raises(grpc.RpcError) as refused,
        ):
            prefill_pb2_grpc.PrefillStub(channel).Run(request, timeout=10)
        refusal: Any = refused.value
        assert refusal.code() is grpc.StatusCode.PERMISSION_DENIED


def journal(lab: Lab, replica: str) -> list[dict[str, Any]]:
    with open_blocking_channel(address_of(lab, replica)) as channel:
        parts = picks_pb2_grpc.PickJournalStub(channel).Read(picks_pb2.ReadPicksRequest(), timeout=10)
        return [json.loads(line) for part in parts for line in part.lines.splitlines()]
