"""Picks by prompts at an Envoy that sends its picker bodies: what is picked, proved and found wrong."""

from __future__ import annotations

import copy
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from lab.checkers import Evidence, Outcome, Verdict
from lab.checkers.evidence import FaultWindow
from lab.errors import SpecError
from lab.lab import Lab
from lab.plugins.endpoint_picker.bodies import MOST_HELD
from lab.plugins.pickers.checker import CHECKER
from lab.routing.headers import PREFILLER
from lab.runs.evidence import evidence_of
from lab.runs.folder import RunFolder
from lab.spec import SIZES, override, read_spec
from models.proto.generation.v1 import generation_pb2, generation_pb2_grpc
from tests.lab_command import json_of, run_lab
from tests.labs import address_of, lab_up
from tests.plugins.pickers.test_prefill_decode import journal

CHAT = ("--topology", "picker-body", "--rate", "30", "--duration", "3", "--streams", "50", "--turns", "4")
SPEC = """
topologies = [{topologies}]
routes = "{routes}"
picker = "{picker}"
[callers.homepage]
page = [["Chat"]]
[stub.tokens]
time_scale = {scale}
max_num_seqs = 8
blocks = 2048
"""
Gathered = dict[str, Any]


def spec_of(folder: Path, picker: str, *topologies: str, scale: float = 0.02, more: str = "") -> Path:
    names = ", ".join(f'"{each}"' for each in topologies or ("picker-body",))
    routes = SIZES["tokens"].with_name("tokens.routes.yaml")
    spec = folder / "body.toml"
    spec.write_text(SPEC.format(topologies=names, routes=routes, picker=picker, scale=scale) + more)
    return spec


def evidence_by(lab: Lab, *options: str, statuses: tuple[int, ...] = (0,)) -> Evidence:
    return evidence_of(RunFolder(Path(json_of(run_lab(lab, "load", *options, "--json"), statuses=statuses)["run_dir"])))


def judged(evidence: Evidence, spoil: Callable[[Gathered], object] = lambda _: None) -> Verdict:
    gathered = copy.deepcopy(dict(evidence.gathered))
    spoil(gathered[CHECKER.name])
    verdict = CHECKER.check(replace(evidence, gathered=gathered))
    assert verdict is not None
    return verdict


def picks_of(gathered: Mapping[str, Any]) -> list[dict[str, Any]]:
    picks: list[dict[str, Any]] = gathered["gateways"]["picker"]["entries"]
    return picks


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A secured lab whose endpoint picker goes by prefixes."""
    folder = tmp_path_factory.mktemp("body")
    with lab_up(folder, spec=spec_of(folder, "prefix", scale=0.001), metrics=True) as lab:
        yield lab


@pytest.fixture(scope="module")
def evidence(lab: Lab) -> Evidence:
    """Of conversations of two tenants."""
    return evidence_by(lab, *CHAT, "--users", "9", "--context", "tenant=a,b")


def test_every_pick_goes_by_its_prompt_and_is_judged(evidence: Evidence) -> None:
    asked, verdict = {each.request_id for each in evidence.records}, judged(evidence)
    picks = [each for each in picks_of(evidence.gathered[CHECKER.name]) if each["asked"]["request_id"] in asked]

    assert verdict.outcome is Outcome.VALID
    assert f"{len(asked)} prompts" in verdict.summary
    assert f"{len(picks)} picks by prefix" in verdict.summary
    assert len(picks) == len(asked) > 60
    assert {each["status"] for each in picks} == {"OK"}
    assert all(each["asked"]["tokens"] >= 512 and each["asked"]["session"] for each in picks)
    assert {each["asked"]["tenant"] for each in picks} == {"a", "b"}


def test_most_tokens_are_cached_as_prompts_go_where_their_beginning_is(evidence: Evidence) -> None:
    """Each of 16 beginnings (8 prompts, 2 tenants) is computed once."""
    asked = {each.request_id for each in evidence.records}
    entries = [
        each
        for its in evidence.gathered[CHECKER.name]["replicas"].values()
        for each in its["entries"]
        if each["request_id"] in asked
    ]
    new_beginnings = sum(each["cached"] < 384 for each in entries)

    assert len(entries) == len(asked)
    assert new_beginnings <= 16, new_beginnings  # round-robin would have up to 64 on four replicas


def _lost(gathered: Gathered) -> None:
    picks_of(gathered).pop()


def _other_tenant(gathered: Gathered) -> None:
    picks_of(gathered)[-1]["asked"]["hashes"] = "00" * 8 * 32


def _blind(gathered: Gathered) -> None:
    picks_of(gathered)[-1]["asked"] |= {"hashes": "", "tokens": 0}


def _still_there(gathered: Gathered) -> None:
    next(each for each in picks_of(gathered) if each["asked"]["session"])["ended"] = 0


def _elsewhere(gathered: Gathered) -> None:
    pick = picks_of(gathered)[-1]
    pick["picked"] = next(each["address"] for each in pick["seen"] if each["address"] != pick["picked"])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_lost, "served it, and nothing was picked"),
        (_other_tenant, "the picker saw another blocks than was asked"),
        (_blind, "the picker saw another number of tokens, blocks"),
        (_elsewhere, "served it, and ml-cluster-1-"),
        (_still_there, "counts it as in flight, and it was answered"),
    ],
)
def test_what_is_wrong_with_the_pickers_journal_is_found(
    evidence: Evidence, spoil: Callable[[Gathered], None], said: str
) -> None:
    verdict = judged(evidence, spoil)

    assert verdict.outcome is Outcome.INVALID
    assert any(said in each.message for each in verdict.violations), verdict.violations


def test_a_message_larger_than_the_bound_is_picked_for_without_its_prompt_and_counted(lab: Lab) -> None:
    before = counted(lab)
    evidence = evidence_by(
        lab, "--topology", "picker-body", "--payload", str(MOST_HELD + 50_000), "--rate", "4", "--duration", "3"
    )
    asked, verdict = {each.request_id for each in evidence.records}, judged(evidence)
    picks = [each for each in picks_of(evidence.gathered[CHECKER.name]) if each["asked"]["request_id"] in asked]
    after = counted(lab)

    assert verdict.outcome is Outcome.VALID, verdict
    assert {(each["asked"]["tokens"], each["asked"]["hashes"]) for each in picks} == {(0, "")}
    assert after["too long"] - before.get("too long", 0) >= len(asked) > 5


def counted(lab: Lab) -> dict[str, float]:
    """The picker's requests, by what became of their prompts."""
    url = next(each.url for each in lab.endpoints().metrics if each.labels["unit"] == "picker")
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 (our own unit's)
        lines = [line.rpartition(" ") for line in answer.read().decode().splitlines()]
    name = "lab_picker_prompts_total"
    return {text.split('"')[1]: float(value) for text, _, value in lines if text.startswith(f"{name}{{")}


def test_an_envoy_that_walked_down_its_list_is_not_held_against_the_picker(evidence: Evidence) -> None:
    def walked(gathered: Gathered) -> None:
        pick = picks_of(gathered)[-1]
        served = pick["picked"]
        _elsewhere(gathered)
        pick["served"] = served

    broken = replace(evidence, faults_elsewhere=[FaultWindow("ml-cluster-1-a killed", "ml-cluster-1-a", 1, 2)])
    assert not any("served it" in each.message for each in judged(broken, walked).violations)
    assert any("and told its proxy ml-cluster-1-" in each.message for each in judged(broken, walked).violations)
    assert any("served it" in each.message for each in judged(evidence, walked).violations)


def test_a_picker_by_load_is_judged_by_headers_too(tmp_path: Path) -> None:
    with lab_up(tmp_path, spec=spec_of(tmp_path, "queue-depth", "picker", "picker-body")) as lab:
        runs = {
            name: evidence_by(lab, "--topology", name, *CHAT[2:], "--users", "9") for name in ("picker", "picker-body")
        }

    for evidence in runs.values():
        assert judged(evidence).outcome is Outcome.VALID
        assert f"{len(evidence.records)} picks by queue-depth" in judged(evidence).summary


def test_in_turn_replicas_are_picked_without_prompts_and_judged(tmp_path: Path) -> None:
    with lab_up(tmp_path, spec=spec_of(tmp_path, "round-robin")) as lab:
        evidence = evidence_by(lab, *CHAT, "--users", "9")

    assert judged(evidence).outcome is Outcome.VALID
    assert "picks" not in judged(evidence).summary


def test_prefill_replicas_are_handed_on_and_a_forged_one_is_removed(tmp_path: Path) -> None:
    more = "prefill_replicas = 2\nkv_transfer_ms = 0.05\n"
    # In plaintext a client can send whatever headers it likes.
    with lab_up(tmp_path, spec=spec_of(tmp_path, "prefill-decode", more=more), security="plaintext") as lab:
        evidence = evidence_by(lab, *CHAT, "--users", "9", "--share", "0")
        forged = address_of(lab, "ml-cluster-1-a")
        request = generation_pb2.GenerateRequest(prompt=range(64), max_tokens=2)
        request.envelope.request_id = "forged-1"
        headers = (("x-routing-key", "chat-model.v1"), (PREFILLER, forged))
        with grpc.insecure_channel(address_of(lab, "body-envoy")) as channel:
            generation_pb2_grpc.GenerationStub(channel).Generate(request, metadata=headers, timeout=10)
        names = [f"ml-cluster-1-{each}" for each in "abcd"]
        entries = [each for name in names for each in journal(lab, name) if each["request_id"] == "forged-1"]

    apart = sum(
        bool(each["prefiller"]) for each in picks_of(evidence.gathered[CHECKER.name]) if each["asked"]["session"]
    )
    assert judged(evidence).outcome is Outcome.VALID
    assert judged(evidence).summary.endswith(f"; {apart} prefilled by another replica")
    assert apart > len(evidence.records) / 4  # the first turn of each conversation at least
    assert [(each["work"], each["prefiller"]) for each in entries] == [("", "")]


def test_topologies_that_send_headers_alone_are_refused_for_pickers_by_prompt() -> None:
    for topology in ("picker", "picker-closed"):
        with pytest.raises(SpecError, match=f"topology {topology} cannot pick by prefix: it does not read the prompt"):
            override(read_spec(SIZES["tokens"]), topologies=[topology], picker="prefix")
