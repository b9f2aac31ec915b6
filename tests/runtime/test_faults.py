"""Each kind of fault bites, is seen, and is healed, on both runtimes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from functools import partial

import pytest

from lab.errors import InputError
from lab.faults import Fault, Visible
from lab.lab import Lab
from lab.runs.events import LAB_EVENTS
from lab.waiting import consistently, eventually
from scenarios.framework.steps import arrived, registered
from tests.labs import ask, replica_of

# A unit takes its time to start where much else is going on.
WITHIN = timedelta(seconds=45)
A, B = "ml-cluster-1-a", "ml-cluster-1-b"
OF_NOISY = "ml-cluster-2-a"


@pytest.fixture
def lab(lab_to_break: Lab) -> Iterator[Lab]:
    """Whole before and after each test."""
    yield lab_to_break
    lab_to_break.faults.heal()
    for topology in ("gateway", "mesh"):
        eventually(
            "both replicas answer",
            partial(answers, lab_to_break, topology),
            until={A, B}.__eq__,
            within=WITHIN,
        )


def answers(lab: Lab, topology: str) -> set[str]:
    """Who answers six requests."""
    return {replica_of(lab, topology) for _ in range(6)}


def events(lab: Lab, target: str) -> list[str]:
    """Kinds of the events of this target."""
    path = lab.folder / LAB_EVENTS
    written = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [event["kind"] for event in written if event["target"] == target]


def assert_seen(fault: Fault) -> None:
    seen = eventually("it is seen", fault.observe, until=lambda seen: seen.visible is Visible.YES, within=WITHIN)
    assert seen.figures


def assert_healed(lab: Lab, fault: Fault) -> None:
    assert lab.faults.heal(fault) == [fault.id]
    assert lab.faults.heal(fault) == []
    assert not fault.active
    assert fault.observe().visible is Visible.UNKNOWN


def test_a_cluster_that_is_killed_answers_nobody_until_it_is_healed(lab: Lab) -> None:
    fault = lab.faults.inject("kill", "ml-cluster-1")

    assert fault.record.units == (A, B)
    eventually("nobody answers", lambda: replica_of(lab), until="UNAVAILABLE".__eq__, within=WITHIN)
    assert_seen(fault)
    assert_healed(lab, fault)
    eventually("both are back", lambda: registered(lab), until={A, B, OF_NOISY}.__eq__, within=WITHIN)


def test_a_paused_sidecar_holds_up_the_mesh_alone_until_it_is_healed(lab: Lab) -> None:
    fault = lab.faults.inject("pause", "sidecar")

    assert fault.record.units == ("homepage-sidecar",)
    assert replica_of(lab) in {"DEADLINE_EXCEEDED", "UNAVAILABLE"}
    assert replica_of(lab, "gateway") in {A, B}
    assert_seen(fault)
    assert_healed(lab, fault)
    eventually("the mesh answers", lambda: replica_of(lab), until=lambda seen: seen in {A, B}, within=WITHIN)


def test_a_replica_that_is_cut_off_is_left_out_until_it_is_healed(lab: Lab) -> None:
    if lab.status().runtime == "process":
        with pytest.raises(InputError, match=r"^partition .* process runtime.*use `pause`.*--runtime compose"):
            lab.faults.inject("partition", A)
        assert lab.faults.active() == []
        return
    fault = lab.faults.inject("partition", A)

    eventually("it is left out", lambda: registered(lab), until={B, OF_NOISY}.__eq__, within=WITHIN)
    assert_seen(fault)
    assert_healed(lab, fault)
    # Eventually: a replica that gets no processor for a second is left out, and back a moment later.
    eventually("it is registered", lambda: A in registered(lab), within=WITHIN)


def test_a_slow_cluster_takes_as_much_longer_as_was_asked_for(lab: Lab) -> None:
    fault = lab.faults.inject("slow", "ml-cluster-1", ms=300)

    assert min(ask(lab, topology).latency_ms for topology in ("gateway", "mesh")) >= 300
    assert_seen(fault)
    assert_healed(lab, fault)
    assert min(ask(lab).latency_ms for _ in range(3)) < 300


def test_one_slow_replica_of_two_is_the_same_for_the_same_seed(lab: Lab) -> None:
    with lab.faults.injected("slow", "ml-cluster-1", ms=400, share=0, seed=3, sigma=0.1) as fault:
        (slow,) = fault.record.units
        assert set(fault.observe().figures["median_ms"]) == {slow}
        its = eventually("it answers", lambda: ask(lab), until=lambda seen: seen.replica == slow, within=WITHIN)
        other = eventually("the other does", lambda: ask(lab), until=lambda seen: seen.replica != slow, within=WITHIN)
        assert its.latency_ms > 200
        assert its.latency_ms > other.latency_ms
    with lab.faults.injected("slow", "ml-cluster-1", ms=400, share=0, seed=3) as again:
        assert again.record.units == (slow,)


def test_a_cluster_of_errors_fails_what_it_is_asked(lab: Lab) -> None:
    fault = lab.faults.inject("error", "ml-cluster-1", rate=1)

    assert {replica_of(lab, topology) for topology in ("gateway", "mesh")} == {"INTERNAL"}
    assert_seen(fault)
    assert_healed(lab, fault)
    assert {replica_of(lab) for _ in range(6)} == {A, B}


def test_errors_at_a_light_rate_are_seen_by_enough_probes(lab: Lab) -> None:
    with lab.faults.injected("error", A, level="light", seed=5) as fault:
        seen = fault.observe()

    assert seen.visible is Visible.YES
    assert 0 < seen.figures["failed"][A] < seen.figures["probes"] / 10


def test_a_flood_goes_where_its_tenant_is_sent_and_ends_by_itself(lab: Lab) -> None:
    before = arrived(lab, OF_NOISY)
    fault = lab.faults.inject("flood", "noisy", rate=100, seconds=1.5, topology="gateway")

    eventually("it has ended", lambda: not fault.active, within=WITHIN)
    assert arrived(lab, OF_NOISY) - before >= 50
    assert lab.faults.heal(fault) == []


def test_a_flood_is_seen_and_stops_at_once_when_it_is_healed(lab: Lab) -> None:
    fault = lab.faults.inject("flood", "noisy", rate=50, seconds=60)
    assert_seen(fault)

    assert_healed(lab, fault)

    after = arrived(lab, OF_NOISY)
    consistently("nobody asks", lambda: arrived(lab, OF_NOISY) == after, during=timedelta(seconds=0.5))


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_without_a_control_plane_known_routes_serve_on_until_it_is_healed(lab: Lab, how: str) -> None:
    fault = lab.faults.inject("control-plane-loss", how=how, seconds=60)

    assert_seen(fault)
    assert {replica_of(lab, topology) for topology in ("gateway", "mesh")} <= {A, B}
    assert_healed(lab, fault)
    eventually("replicas are known", lambda: registered(lab), until={A, B, OF_NOISY}.__eq__, within=WITHIN)


def test_a_control_plane_that_is_lost_for_a_time_comes_back_by_itself(lab: Lab) -> None:
    before = events(lab, "control-plane")
    fault = lab.faults.inject("control-plane-loss", how="kill", seconds=1)

    eventually("it is healed", lambda: not fault.active, within=WITHIN)
    assert events(lab, "control-plane") == [*before, "kill", "start"]
    eventually("replicas are known", lambda: registered(lab), until={A, B, OF_NOISY}.__eq__, within=WITHIN)


def test_every_fault_is_in_the_audit_log_even_one_of_the_control_plane(lab: Lab) -> None:
    before = len(lab.audit().acts)
    lab.routes.publish(lab.folder.parent.parent / "routes.yaml", comment="before")
    killed = lab.faults.inject("kill", A, level="severe", seed=7)
    killed.heal()
    lost = lab.faults.inject("control-plane-loss", how="kill", seconds=60)
    without = lab.audit()
    lost.heal()
    lab.units.pause(B)
    lab.units.resume(B)

    assert without.missing
    assert without.acts[-1].what == "fault inject control-plane-loss"
    log = lab.audit()
    acts = [(each.what.rpartition(".")[2], each.unit, each.status) for each in log.acts[before:]]
    assert acts == [
        ("Admin/Publish", "control-plane", "OK"),
        ("fault inject kill", A, "OK"),
        ("fault heal kill", A, "OK"),
        ("fault inject control-plane-loss", "control-plane", "OK"),
        ("fault heal control-plane-loss", "control-plane", "OK"),
        ("unit pause", B, "OK"),
        ("unit resume", B, "OK"),
    ]
    assert not log.missing
    assert f"{killed.id} at {A}, level severe, seed 7" in log.acts[before + 1].detail
    assert all(f"(uid {os.getuid()})" in each.who for each in log.acts[before + 1 :])
    assert list(log.acts) == sorted(log.acts, key=lambda act: act.at_ns)
    assert list(lab.audit(2).acts) == list(log.acts[-2:])


def test_a_cold_replica_gets_nothing_until_it_has_loaded(lab: Lab) -> None:
    fault = lab.faults.inject("cold", A, warm_up_s=60)

    eventually("it loads", lambda: fault.observe().figures["loading"], until=[A].__eq__, within=WITHIN)
    assert_seen(fault)
    assert {replica_of(lab) for _ in range(4)} == {B}
    assert_healed(lab, fault)
    eventually("it is registered", lambda: A in registered(lab), within=WITHIN)
    # That it was killed and started is part of one act.
    assert events(lab, "ml-cluster-1-a")[-2:] == ["cold", "heal cold"]


def test_a_cold_replica_is_slow_at_first(lab: Lab) -> None:
    fault = lab.faults.inject("cold", A, warm_up_s=0, ms=400, requests=1000)

    assert_seen(fault)
    cold = eventually("it answers", lambda: ask(lab), until=lambda seen: seen.replica == A, within=WITHIN)
    assert cold.latency_ms >= 300
    assert_healed(lab, fault)
    warm = eventually("it answers", lambda: ask(lab), until=lambda seen: seen.replica == A, within=WITHIN)
    assert warm.latency_ms < cold.latency_ms


def test_churn_cuts_requests_off_in_flight_until_it_is_healed(lab: Lab) -> None:
    with lab.faults.injected("slow", "ml-cluster-1", ms=400):
        assert {replica_of(lab, "gateway") for _ in range(2)} == {A, B}
        fault = lab.faults.inject("churn", "ml-cluster-1", every_ms=100)

        eventually("it is cut off", lambda: replica_of(lab, "gateway"), until="UNAVAILABLE".__eq__, within=WITHIN)
        assert_seen(fault)
        assert_healed(lab, fault)
        eventually("it arrives", lambda: replica_of(lab, "gateway"), until=lambda seen: seen in {A, B}, within=WITHIN)


def test_a_fault_without_an_effect_is_reported(lab: Lab) -> None:
    with (
        lab.faults.injected("slow", "ml-cluster-1", ms=200) as slow,
        lab.faults.injected("error", A, rate=0.5) as error,
    ):
        assert slow.observe().visible is Visible.YES
        lab.units.kill(A)
        lab.units.start(A)
        eventually("it is back", lambda: A in registered(lab), within=WITHIN)

        # What has started anew knows nothing of dials.
        assert slow.observe().visible is Visible.NO
        assert error.observe().visible is Visible.NO
