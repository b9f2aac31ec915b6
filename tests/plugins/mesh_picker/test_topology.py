"""A lab whose caller picks replicas by itself: what is picked, served, reported and judged, and who obeys a header."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from lab.checkers import Evidence, Outcome, Verdict
from lab.checkers.evidence import FaultWindow
from lab.errors import LabError
from lab.lab import Lab
from lab.plugins.endpoint_picker.contract import DESTINATION, SERVED
from lab.plugins.mesh_picker.picks import LAST_S
from lab.plugins.pickers.checker import CHECKER
from lab.plugins.pickers.journals import _read
from lab.routing.headers import PREFILLER
from lab.runs.evidence import evidence_of
from lab.runs.folder import RunFolder
from lab.spec import SIZES
from lab.waiting import eventually
from models.proto.generation.v1 import generation_pb2
from tests.lab_command import json_of, run_lab
from tests.labs import address_of, lab_up
from tests.plugins.pickers.test_prefill_decode import journal

CHAT = ("--topology", "mesh-picker", "--rate", "30", "--streams", "50", "--turns", "4", "--users", "9")
SPEC = """
topologies = [{topologies}]
routes = "{routes}"
[callers.homepage]
page = [["Chat"]]
[stub.tokens]
time_scale = 0.005
max_num_seqs = 8
blocks = 2048
"""
KEY, REPLICAS = "chat-model.v1", [f"ml-cluster-1-{each}" for each in "abcd"]
Gathered = dict[str, Any]


def spec_in(folder: Path, topologies: str = '"mesh-picker"') -> Path:
    spec = folder / "mesh.toml"
    spec.write_text(SPEC.format(topologies=topologies, routes=SIZES["tokens"].with_name("tokens.routes.yaml")))
    return spec


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("mesh-picker")
    with lab_up(folder, spec=spec_in(folder), picker="prefix") as lab:
        yield lab


def evidence_by(lab: Lab, *options: str) -> Evidence:
    return evidence_of(RunFolder(Path(json_of(run_lab(lab, "load", *options, "--json"), statuses=(0, 2))["run_dir"])))


@pytest.fixture(scope="module")
def evidence(lab: Lab) -> Evidence:
    return evidence_by(lab, *CHAT, "--duration", "3")


def judged(evidence: Evidence, spoil: Callable[[Gathered], object] = lambda _: None) -> Verdict:
    gathered = copy.deepcopy(dict(evidence.gathered))
    spoil(gathered[CHECKER.name])
    verdict = CHECKER.check(replace(evidence, gathered=gathered))
    assert verdict is not None
    return verdict


def client_picks(gathered: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = gathered["gateways"]["homepage-replica-signals"]["entries"]
    return found


def test_the_caller_picks_every_request_by_its_prompt_and_hears_who_served_it(evidence: Evidence) -> None:
    asked, verdict = {each.request_id for each in evidence.records}, judged(evidence)
    picks = [each for each in client_picks(evidence.gathered[CHECKER.name]) if each["asked"]["request_id"] in asked]

    assert verdict.outcome is Outcome.VALID, verdict
    assert f"{len(picks)} picks by prefix" in verdict.summary
    assert len(picks) == len(asked) > 50
    assert {each["status"] for each in picks} == {"OK"}
    assert all(each["served"] == each["picked"] for each in picks)
    assert all(each["asked"]["tokens"] >= 512 and each["asked"]["slo_first_ms"] == 25 for each in picks)
    assert all(0 <= sight["age_ms"] < 2_000 for each in picks for sight in each["seen"])


def _lost(gathered: Gathered) -> None:
    client_picks(gathered).pop()


def _elsewhere(gathered: Gathered) -> None:
    pick = client_picks(gathered)[-1]
    pick["picked"] = next(each["address"] for each in pick["seen"] if each["address"] != pick["picked"])


def _not_said(gathered: Gathered) -> None:
    client_picks(gathered)[-1]["served"] = ""


def _unpicked(gathered: Gathered) -> None:
    name = client_picks(gathered).pop()["asked"]["request_id"]
    gathered["gateways"]["homepage-replica-signals"]["unpicked"][name] = "no signals"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_lost, "served it, and nothing was picked"),
        (_elsewhere, "served it, and ml-cluster-1-"),
        (_not_said, "its sidecar did not report which replica served it"),
        (_unpicked, "its caller sent it without a pick: no signals"),
    ],
)
def test_what_is_wrong_with_the_clients_log_is_found(
    evidence: Evidence, spoil: Callable[[Gathered], None], said: str
) -> None:
    verdict = judged(evidence, spoil)

    assert verdict.outcome is Outcome.INVALID
    assert any(said in each.message for each in verdict.violations), verdict.violations


def test_a_request_without_a_pick_is_counted_where_something_was_broken(evidence: Evidence) -> None:
    broken = replace(evidence, faults_elsewhere=[FaultWindow("paused", "homepage-replica-signals", 1, 2)])

    assert judged(broken, _unpicked).summary.endswith("; 1 sent by their caller without a pick")
    assert not any("without a pick" in each.message for each in judged(broken, _unpicked).violations)


def test_without_signals_requests_are_sent_without_a_pick_and_none_fails(lab: Lab) -> None:
    def call() -> str:
        return lab.call("Chat", topology="mesh-picker", caller="homepage").source

    assert call() == "model"
    before = unpicked(lab)
    with lab.faults.injected("pause", "homepage-replica-signals"):
        until = time.monotonic() + LAST_S + 0.5
        sources = set()
        while time.monotonic() < until:
            sources.add(call())
    assert sources == {"model"}
    eventually("a report of them", lambda: unpicked(lab) > before, within=timedelta(seconds=10))


def unpicked(lab: Lab) -> int:
    """Requests that callers have sent without a pick."""
    found = _read(address_of(lab, "homepage-replica-signals"), "")
    assert found["error"] == ""
    return len(found["unpicked"])


def test_only_the_picker_sidecar_obeys_the_header_and_only_inside_the_keys_cluster(tmp_path: Path) -> None:
    # In plaintext a client can send whatever headers it likes.
    with lab_up(tmp_path, spec=spec_in(tmp_path, '"mesh", "mesh-picker"'), security="plaintext") as lab:
        _obeys_its_caller_inside_the_cluster(lab)


def _obeys_its_caller_inside_the_cluster(lab: Lab) -> None:
    last = address_of(lab, REPLICAS[-1])

    obeyed, said = sent(lab, "picker-sidecar", last, "obeyed")
    assert obeyed == {REPLICAS[-1]: 8}
    assert said == {last: 8}

    outside, said = sent(lab, "picker-sidecar", address_of(lab, "control-plane"), "outside")
    assert outside == dict.fromkeys(REPLICAS, 2)
    assert said.keys() == {address_of(lab, each) for each in REPLICAS}

    ignored, said = sent(lab, "sidecar", last, "ignored")
    assert ignored == dict.fromkeys(REPLICAS, 2)
    assert said == {None: 8}


def sent(lab: Lab, role: str, endpoint: str, name: str) -> tuple[Counter[str], Counter[str | None]]:
    """Sends eight requests that name an endpoint to an Envoy of the caller; which replicas served, and are said to."""
    said: Counter[str | None] = Counter()
    with grpc.insecure_channel(lab.endpoints().clients["homepage"].address_of(role)) as channel:
        generate: Any = channel.unary_unary("/generate.v1.Generation/Generate", request_serializer=bytes)
        for number in range(8):
            request = generation_pb2.GenerateRequest(prompt=range(64), max_tokens=2)
            request.envelope.request_id = f"{name}-{number}"
            headers = (("x-routing-key", KEY), (DESTINATION, endpoint), (PREFILLER, endpoint), (SERVED, "forged"))
            _, call = generate.with_call(request.SerializeToString(), metadata=headers, timeout=10)
            said[next((str(each.value) for each in call.initial_metadata() if each.key == SERVED), None)] += 1
    served = Counter(
        replica for replica in REPLICAS for each in journal(lab, replica) if each["request_id"].startswith(f"{name}-")
    )
    return served, said


def test_a_picker_that_needs_what_callers_do_not_get_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(LabError, match="mesh-picker cannot pick by it: callers get neither KV events nor prefill"),
        lab_up(tmp_path, spec=spec_in(tmp_path), picker="prefill-decode"),
    ):
        pass


@pytest.mark.parametrize("picker", ["round-robin", "least-request", "queue-depth"])
def test_in_a_secured_lab_other_pickers_are_followed_too(tmp_path: Path, picker: str) -> None:
    with lab_up(tmp_path, spec=spec_in(tmp_path), picker=picker) as lab:
        evidence = evidence_by(lab, *CHAT, "--duration", "2")

    assert judged(evidence).outcome is Outcome.VALID, judged(evidence)
    assert not evidence.gathered[CHECKER.name]["gateways"]["homepage-replica-signals"]["unpicked"]
