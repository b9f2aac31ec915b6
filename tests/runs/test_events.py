"""Events of a lab: which of them concern a run, what undoes them, and that old and new files can be read."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from lab.checkers import FaultEffect
from lab.lab import DEFAULT_SPEC
from lab.roles import Port, Unit
from lab.runs.events import (
    LAB_EVENTS,
    STEADY_NS,
    Event,
    append_event,
    events_since,
    fault_windows,
    faults_in,
    lab_events,
    of_unit,
    undone_ns,
)
from lab.runs.folder import RunFolder
from lab.spec import read_spec
from lab.topologies import TOPOLOGIES
from tests.events import event


def _event(kind: str, at_ns: int, target: str = "a-0") -> Event:
    return event(kind, target, at_ns, at_ns + 1)


BEFORE = [
    _event("kill", 1),
    _event("start", 3),
    _event("pause", 5, "b-0"),
    _event("kill", 6, "c-0"),
    _event("scale", 7, "c"),
]
DURING = [_event("resume", 20, "b-0"), _event("kill", 25)]
OF_A_PLUGIN = Event(kind="tickle", target="a-0", past="tickled", undone_by="heal tickle", from_ns=30, until_ns=31)


def test_a_run_keeps_its_events_and_earlier_ones_that_were_not_undone(tmp_path: Path) -> None:
    for each in (*BEFORE, *DURING):
        append_event(tmp_path, each)

    run = RunFolder(tmp_path)
    run.events = events_since(lab_events(tmp_path), 10)

    assert [(each.kind, each.target) for each in run.events] == [
        ("pause", "b-0"),
        ("kill", "c-0"),
        ("resume", "b-0"),
        ("kill", "a-0"),
    ]


def test_an_event_is_undone_by_the_next_that_undoes_it_on_the_same_unit() -> None:
    events = [*BEFORE, *DURING, _event("start", 40)]

    assert [undone_ns(each, events) for each in BEFORE] == [4, None, 21, None, None]
    assert undone_ns(DURING[1], events) == 41


def test_a_lab_without_events_gives_a_run_without_events(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.events = events_since(lab_events(tmp_path / "lab"), 10)

    assert (tmp_path / RunFolder.events.name).exists()
    assert run.events == []
    assert not (tmp_path / LAB_EVENTS).exists()


def test_a_run_from_before_events_were_kept_has_none(tmp_path: Path) -> None:
    assert RunFolder(tmp_path).events == ()


def test_an_event_of_a_plugin_that_is_absent_is_read_with_its_own_words(tmp_path: Path) -> None:
    append_event(tmp_path, OF_A_PLUGIN)
    run = RunFolder(tmp_path)
    run.events = events_since(lab_events(tmp_path), 10)

    (found,) = run.events

    assert found.text == "a-0 tickled"
    assert [fault.name for fault in faults_in([found], from_ns=10, until_ns=60)] == ["a-0 tickled"]


def test_a_file_from_before_events_had_words_is_read_with_the_words_of_its_time(tmp_path: Path) -> None:
    kinds = ["kill", "start", "slow", "heal slow", "scale", "step", "step-over", "partition"]
    old = [
        {"kind": kind, "target": "a-0", "detail": "", "from_ns": at_ns, "until_ns": at_ns}
        for at_ns, kind in enumerate(kinds)
    ]
    (tmp_path / "marks.json").write_text(json.dumps(old))

    found = RunFolder(tmp_path).events

    assert [undone_ns(each, found) for each in found] == [1, None, 3, None, None, 6, None, None]
    assert [each.kind for each in found if each.is_fault] == ["kill", "slow", "partition"]
    assert found[0].text == "a-0 killed"


def test_faults_that_overlap_are_one() -> None:
    events = [
        _event("kill", 30, "gateway-1"),
        _event("kill", 32, "gateway-2"),
        _event("scale", 35, "ml-cluster-1"),
        _event("start", 40, "gateway-1"),
        _event("start", 42, "gateway-2"),
        _event("pause", 50, "ml-cluster-1-a"),
    ]

    both, paused = faults_in(events, from_ns=10, until_ns=60)

    assert (both.name, paused.name) == ("gateway-1, gateway-2 killed", "ml-cluster-1-a paused")
    assert (both.steady_ns, both.inject_ns, both.heal_ns, both.until_ns) == (10, 30, 40, 50)
    assert (paused.steady_ns, paused.inject_ns, paused.heal_ns, paused.until_ns) == (43, 50, 60, 60)
    assert faults_in(events, from_ns=70, until_ns=80) == []


def test_the_steady_time_before_a_fault_is_never_longer_than_needed() -> None:
    (fault,) = faults_in([_event("kill", 10 * STEADY_NS)], from_ns=0, until_ns=20 * STEADY_NS)
    assert fault.steady_ns == 9 * STEADY_NS


def _kill(target: str, role: str, pod: str = "") -> Event:
    return replace(event("kill", target, 1, 2), role=role, pod=pod)


def test_what_requests_do_not_need_cannot_disturb_them() -> None:
    events = [
        _kill("gateway-1", "gateway"),
        _kill("homepage-sidecar", "sidecar", "homepage"),
        _kill("homepage-resolver", "resolver", "homepage"),
        _kill("search-sidecar", "sidecar", "search"),
        _kill("ml-cluster-1-a", "model"),
        _kill("control-plane", "control-plane"),
        OF_A_PLUGIN,
    ]

    def disturbing(topology: str, caller: str) -> list[str]:
        return [each.target for each in fault_windows(events, TOPOLOGIES[topology], caller)]

    shared = ["ml-cluster-1-a", "control-plane", OF_A_PLUGIN.target]
    assert disturbing("gateway", "homepage") == ["gateway-1", *shared]
    assert disturbing("mesh", "homepage") == ["homepage-sidecar", "homepage-resolver", *shared]
    assert disturbing("mesh", "search") == ["search-sidecar", *shared]
    assert [each.target for each in fault_windows(events)] == [each.target for each in events]


def test_a_pod_that_was_cut_off_disturbs_each_topology_of_its_caller_until_it_is_connected_again() -> None:
    cut_off = Event(kind="partition", target="homepage-sidecar", undone_by="rejoin", from_ns=1, until_ns=2)
    back = Event(kind="rejoin", target="homepage-sidecar", past="connected again", from_ns=5, until_ns=6)
    events = [replace(cut_off, pod="homepage"), replace(back, role="sidecar", pod="homepage")]

    [found] = fault_windows(events, TOPOLOGIES["gateway"], "homepage")
    assert (found.target, found.until_ns) == ("homepage-sidecar", 6)
    assert fault_windows(events, TOPOLOGIES["gateway"], "search") == []


def test_connections_stay_open_during_slowness_and_errors_only() -> None:
    events = [replace(OF_A_PLUGIN, kind=kind) for kind in ("slow", "error", "churn", "kill", "partition", "bees")]
    closing = [each.closes for each in fault_windows(events)]
    assert closing == [False, False, True, True, True, True]


def test_only_a_callers_pod_is_noted() -> None:
    spec, nowhere = read_spec(DEFAULT_SPEC), Port("", "", "")
    killed = event("kill", "any", 1, 2)

    alone = of_unit(killed, Unit("ml-cluster-1-a", "model", (), nowhere, pod="ml-cluster-1-a"), spec)
    beside = of_unit(killed, Unit("homepage-sidecar", "sidecar", (), nowhere, pod="homepage"), spec)

    assert [(each.role, each.pod) for each in (alone, beside)] == [("model", ""), ("sidecar", "homepage")]


def test_a_fault_is_surely_at_work_from_its_injection_until_undoing_begins() -> None:
    on_a_node = event("kill", "d-0", 3, 4, "with node-1")
    events = [event("kill", "a-0", 10, 12), event("pause", "b-0", 10, 12), on_a_node, event("start", "a-0", 30, 40)]
    slow = replace(OF_A_PLUGIN, units="c-0 c-1", adds_ms=5.0)
    healed = replace(OF_A_PLUGIN, kind="heal tickle", undone_by="", from_ns=50, until_ns=51)

    assert [each.effect for each in fault_windows([*events, slow, healed, OF_A_PLUGIN])][:-1] == [
        FaultEffect(["a-0"], 12, 30),
        FaultEffect(["b-0"], 12, sys.maxsize),
        None,
        FaultEffect(["c-0", "c-1"], 31, 50, 5.0),
    ]


def test_a_fault_is_not_surely_at_work_once_another_one_hits_its_units() -> None:
    slow = replace(OF_A_PLUGIN, target="c", units="c-0 c-1", adds_ms=5.0, from_ns=1, until_ns=2)
    events = [slow, event("pause", "a-0", 1, 2), event("kill", "a-0", 10, 11), event("kill", "b-0", 15, 16)]

    effects = [
        each.effect for each in fault_windows([*events, event("start", "a-0", 20, 21), event("kill", "c-1", 30, 31)])
    ]

    assert [each and each.until_ns for each in effects] == [30, 10, 20, sys.maxsize, sys.maxsize]
