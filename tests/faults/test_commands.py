"""``lab fault``: what one command injects, another sees and heals."""

from __future__ import annotations

import json
import signal
from datetime import timedelta
from typing import Any

import psutil
import pytest

from lab.errors import InputError, LabError
from lab.lab import Lab
from lab.runs.events import LAB_EVENTS
from lab.waiting import eventually
from tests.lab_command import json_of, refusal, run_lab, start_lab
from tests.labs import states

A = "ml-cluster-1-a"
# A command takes its time to start where much else is going on.
WITHIN = timedelta(seconds=60)


def events(lab: Lab) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (lab.folder / LAB_EVENTS).read_text().splitlines()]


def test_a_fault_outlives_the_command_that_injects_it(lab: Lab) -> None:
    injected = json_of(run_lab(lab, "fault", "inject", "kill", A, "--json"))
    assert injected["observed"]["visible"] == "yes"
    assert not injected["healed"]
    assert states(lab)[A] == "exited"

    listed = json_of(run_lab(lab, "fault", "list", "--observe", "--json"))
    (there,) = listed["injected"]
    assert there["id"] == injected["id"]
    assert there["observed"]["visible"] == "yes"
    assert there["callers"] == ["homepage"]
    said = run_lab(lab, "fault", "list").stdout.splitlines()[0]
    assert said == f"{injected['id']} reaches requests of 1 of 1 callers: homepage"
    assert {kind["kind"] for kind in listed["kinds"]} >= {"kill", "slow", "churn"}

    assert json_of(run_lab(lab, "fault", "heal", injected["id"], "--json")) == {"healed": [injected["id"]]}
    assert states(lab)[A] == "running"
    assert lab.faults.heal(injected["id"]) == []
    assert "nothing is injected" in run_lab(lab, "fault", "list").stdout


def test_for_a_while_waits_and_heals(lab: Lab) -> None:
    done = json_of(run_lab(lab, "fault", "inject", "kill", A, "--for", "1", "--json"))

    assert done["healed"]
    assert [(event["kind"], event["target"]) for event in events(lab)[-2:]] == [("kill", A), ("start", A)]
    assert states(lab)[A] == "running"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_heals_before_its_time(lab: Lab, number: signal.Signals) -> None:
    with start_lab(lab, "fault", "inject", "pause", A, "--for", "60") as injecting:
        eventually("it is injected", lambda: states(lab)[A], until="paused".__eq__, within=WITHIN)
        injecting.send_signal(number)
        _, said = injecting.communicate(timeout=60)

    assert injecting.returncode == 130
    assert said.splitlines()[-1] == "lab: interrupted"
    assert states(lab)[A] == "running"
    assert lab.faults.active() == []


def test_a_time_that_is_up_heals_also_if_nobody_waits_any_more(lab: Lab) -> None:
    with start_lab(lab, "fault", "inject", "pause", A, "--for", "4") as injecting:
        timed = eventually(
            "it has a timer",
            lambda: [each for each in lab.faults.active() if "timer" in each.record.memory],
            within=WITHIN,
        )
        injecting.kill()
        injecting.communicate()

    eventually("it is healed", lambda: not timed[0].active, within=WITHIN)
    assert states(lab)[A] == "running"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("burn", A), "fault 'burn' is not known; there are bad-push, churn, "),
        (("slow", A, "--set", "ms"), "--set: 'ms' is not of the form name=value; write e.g. ms=50"),
        (("slow", A, "--set", "seed=3"), "--set: seed is not a setting; give it by its own option or argument"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(lab: Lab, arguments: tuple[str, ...], message: str) -> None:
    assert refusal(run_lab(lab, "fault", "inject", *arguments)).startswith(f"lab: {message}")


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (
            ("kill", "nobody"),
            {},
            r"'nobody' is not a unit, cluster or role of this lab; there are the units control-plane",
        ),
        (("kill",), {}, r"kill: needs a target: a unit, or a share of a model cluster or of a role"),
        (("slow", "homepage"), {}, r"homepage: is a caller; name a model cluster, e.g. ml-cluster-1, or a replica"),
        (("slow", A), {"level": "grave"}, r"level: 'grave' is not known; use light, medium, severe"),
        (("slow", A), {"for_s": -1}, r"--for: -1: use seconds above 0"),
        (("partition", A), {}, r"partition \S+: not on the process runtime, where all .* one loopback; use `pause`"),
        (("control-plane-loss", A), {}, r"control-plane-loss: '\S+' is not a target; leave it out, or kill"),
        (("flood", "noisy"), {"caller": "nobody"}, r"caller: 'nobody' is not in this lab; there are homepage"),
        (("flood", "noisy"), {"use_case": "No"}, r"use_case: homepage may not call 'No'; it may call Con"),
        (("flood", "noisy"), {"topology": "direct"}, r"topology: 'direct' is not up; there are gateway, mesh"),
        (
            ("bad-push", "letters"),
            {},
            r"bad-push: 'letters' is not a target; use clusters, rules, stale-rules or model",
        ),
    ],
)
def test_what_cannot_be_injected_is_said_in_one_line_and_changes_nothing(
    lab: Lab, arguments: tuple[str, ...], settings: dict[str, Any], message: str
) -> None:
    before = states(lab)

    with pytest.raises(InputError, match=f"^{message}") as error:
        lab.faults.inject(*arguments, **settings)

    assert "\n" not in str(error.value)
    assert lab.faults.active() == []
    assert states(lab) == before


@pytest.mark.parametrize(("first", "second"), [("kill", "kill"), ("pause", "kill"), ("pause", "cold")])
def test_a_second_fault_on_a_unit_is_refused_with_the_remedy(lab: Lab, first: str, second: str) -> None:
    with lab.faults.injected(first, A) as fault:
        with pytest.raises(InputError, match=rf"^{second} ml-cluster-1: {A} is .*heal"):
            lab.faults.inject(second, "ml-cluster-1", share=1)
        assert [each.id for each in lab.faults.active()] == [fault.id]


def test_dials_of_different_kinds_go_together_and_each_is_turned_back(lab: Lab) -> None:
    message = rf"^slow ml-cluster-1: {A} is already hit by slow-\d+; `lab fault heal"
    with (
        lab.faults.injected("slow", A, ms=5),
        lab.faults.injected("error", A, rate=1),
        pytest.raises(InputError, match=message),
    ):
        lab.faults.inject("slow", "ml-cluster-1")
    with lab.faults.injected("error", A, rate=0.001) as fault:
        before = fault.record.memory["before"][A]
    with lab.faults.injected("slow", A, ms=1) as fault:
        assert fault.record.memory["before"][A] == before


def test_all_are_healed_the_newest_first(lab: Lab) -> None:
    ids = [lab.faults.inject("slow", "ml-cluster-1", ms=5).id, lab.faults.inject("pause", A).id]

    assert lab.faults.heal() == ids[::-1]
    assert lab.faults.heal() == []


def test_one_that_cannot_be_healed_stays_and_does_not_hold_up_the_others(lab: Lab) -> None:
    first, slow = lab.faults.inject("error", "ml-cluster-1-b"), lab.faults.inject("slow", A, ms=5)
    lab.units.pause(A)
    try:
        with pytest.raises(LabError, match=rf"^{A}: its control API does not answer \(\S+.*resume it"):
            lab.faults.heal()
        assert [each.id for each in lab.faults.active()] == [slow.id]
        assert not first.active
    finally:
        lab.units.resume(A)
    assert lab.faults.heal() == [slow.id]


def test_heal_refuses_an_unknown_id(lab: Lab) -> None:
    assert refusal(run_lab(lab, "fault", "heal", "everything")) == (
        "lab: 'everything' is not a fault's id; write one that `lab fault list` shows, or all"
    )


def test_every_act_is_written_down_and_can_be_shown(lab: Lab) -> None:
    with lab.faults.injected("slow", "ml-cluster-1", level="light"):
        pass
    with lab.faults.injected("pause", A):
        pass

    written = events(lab)[-4:]
    assert [(event["kind"], event["target"]) for event in written] == [
        ("slow", "ml-cluster-1"),
        ("heal slow", "ml-cluster-1"),
        ("pause", A),
        ("resume", A),
    ]
    assert [(event["past"], event["undone_by"]) for event in written] == [
        ("slowed down", "heal slow"),
        ("healed", ""),
        ("paused", "resume"),
        ("resumed", ""),
    ]
    assert written[0]["detail"] == "ms 20, on ml-cluster-1-a, ml-cluster-1-b"


def test_down_ends_what_a_fault_has_started(mini_lab: Lab) -> None:
    fault = mini_lab.faults.inject("flood", "noisy", rate=20, seconds=60)
    timer = psutil.Process(fault.record.memory["timer"]["pid"])
    eventually("it drives", timer.children, within=WITHIN)
    children = timer.children()
    mini_lab.faults.inject("slow", "ml-cluster-1")

    mini_lab.down()

    assert [each for each in (timer, *children) if each.is_running() and each.status() != psutil.STATUS_ZOMBIE] == []
    refused = refusal(run_lab(mini_lab, "fault", "heal"))
    assert refused.startswith(f"lab: lab {mini_lab.name} is not up: run `lab up`")
    assert json_of(run_lab(mini_lab, "fault", "list", "--json"))["injected"] is None
