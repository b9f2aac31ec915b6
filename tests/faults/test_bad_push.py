"""Bad pushes: a node that is offered one refuses it with the reason, and the last good state serves on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lab.errors import InputError
from lab.faults import Fault, Visible
from lab.lab import Lab
from tests.labs import ask, known, with_timeout

TRIES = 3


def answers(lab: Lab) -> set[tuple[str, str, int]]:
    found = set()
    for topology in ("gateway", "mesh"):
        call = ask(lab, topology)
        found.add((call.model, call.version, call.revision))
    return found


def errors(lab: Lab) -> dict[str, str]:
    return {node.node: node.error for node in known(lab).nodes if node.error}


def offered(lab: Lab, target: str) -> tuple[Fault, dict[str, str]]:
    """The fault, and who is shown to have refused it.

    Anew where nobody is: on a busy machine a replica may leave for a moment, and what Envoys then take of that is their
    latest answer.
    """
    for _ in range(TRIES):
        fault = lab.faults.inject("bad-push", target)
        if shown := errors(lab):
            return fault, shown
        lab.faults.heal(fault)
    pytest.fail(f"nobody is shown to have refused it, {TRIES} times")


@pytest.fixture
def with_history(lab: Lab, routes: Path, tmp_path: Path) -> int:
    """A lab whose latest revision has changed a rule; its number."""
    changed = tmp_path / "changed.yaml"
    changed.write_text(with_timeout(routes.read_text(), "3s"))
    lab.routes.publish(changed)
    return lab.routes.publish(routes)


@pytest.mark.parametrize(
    ("target", "nodes", "reason"),
    [
        ("rules", {"gateway-1", "homepage-resolver"}, r"ContinueWatchingRanking: is not JSON"),
        ("stale-rules", {"gateway-1", "homepage-resolver"}, r"revision \d+ is older than \d+, which is in force"),
        ("clusters", {"homepage-sidecar"}, r"ConnectTimeout: value must be greater than 0s"),
    ],
)
def test_nodes_refuse_what_they_are_offered_and_serve_on(
    lab: Lab, with_history: int, target: str, nodes: set[str], reason: str
) -> None:
    before = answers(lab)
    fault, shown = offered(lab, target)

    seen = fault.observe()
    assert seen.visible is Visible.YES, seen
    assert set(seen.figures["refusals"]) == nodes
    for refusal in seen.figures["refusals"].values():
        assert "\n" not in refusal
        assert re.search(reason, refusal)
    assert set(shown) == nodes
    assert answers(lab) == before
    assert lab.routes.show().revision == with_history

    lab.faults.heal(fault)
    assert errors(lab) == {}
    assert answers(lab) == before


def test_some_nodes_only_are_offered_it_and_the_same_for_the_same_seed(lab: Lab) -> None:
    with lab.faults.injected("bad-push", level="light", seed=4) as fault:
        (node,) = fault.record.units
        assert set(errors(lab)) == {node}
    with lab.faults.injected("bad-push", level="light", seed=4) as fault:
        assert fault.record.units == (node,)


def test_a_publish_goes_through_while_a_bad_push_is_remembered(lab: Lab, routes: Path, tmp_path: Path) -> None:
    ask(lab)
    changed = tmp_path / "changed.yaml"
    changed.write_text(with_timeout(routes.read_text(), "4s"))
    with lab.faults.injected("bad-push", "rules"), lab.faults.injected("bad-push", "clusters"):
        revision = lab.routes.publish(changed)
        assert errors(lab) == {}
        assert {each for _, _, each in answers(lab)} == {revision}


def test_a_version_that_cannot_be_loaded_is_refused_by_a_replica_and_nothing_changes(lab: Lab) -> None:
    before, revision = answers(lab), lab.routes.show().revision
    fault = lab.faults.inject("bad-push", "model", level="light", seed=2)

    (replica,) = fault.record.units
    seen = fault.observe()
    assert seen.visible is Visible.YES
    assert f"replica {replica} of ml-cluster-1 cannot load cw-ranker.v999999" in seen.because
    assert lab.routes.show().revision == revision
    assert answers(lab) == before
    assert lab.routes.history()[-1].steps[-1].phase == "failed"

    lab.faults.heal(fault)
    with lab.faults.injected("slow", replica, ms=1) as slow:
        assert slow.observe().figures["requests_since"][replica] > 0


def test_stale_rules_need_an_older_revision(lab: Lab) -> None:
    with pytest.raises(InputError, match=r"no revision 9999 is older than \d+.*publish a change of rules first"):
        lab.faults.inject("bad-push", "stale-rules", revision=9999)
    assert lab.faults.active() == []
