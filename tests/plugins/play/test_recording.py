"""A recorded play: what it may hold, what is shown of it, and that its picture is the one in the documentation."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from xml.etree import ElementTree as ET

import pytest

from lab import CHECKOUT
from lab.errors import InputError
from lab.plugins.play.act import ACTS, in_order
from lab.plugins.play.finding import Finding
from lab.plugins.play.picture import picture
from lab.plugins.play.recording import Recording, read, state_of
from lab.plugins.play.runner import played
from lab.plugins.play.show import document_of, replay

if TYPE_CHECKING:
    from lab.plugins.play.stage import Stage

PLAYED = CHECKOUT / "docs" / "play" / "play.jsonl"
BEGINS = {"at_s": 0, "event": "begins", "acts": [{"number": 1, "name": "a", "title": "A", "sentence": "It is."}]}
ACT = {"at_s": 1, "event": "act", "act": "a"}
FOUND = {"at_s": 2, "event": "found", "act": "a", "figure": "1 of 1", "shown": True, "basis": "1 request judged"}


def lines(*events: object) -> str:
    return "".join(json.dumps(each) + "\n" for each in events)


def test_there_are_eight_acts_each_with_one_sentence() -> None:
    acts = in_order()
    assert [act.number for act in acts] == list(range(1, 9))
    for act in acts:
        assert len(act.title.split()) <= 4
        assert re.fullmatch(r"[A-Z][^.]+\.", act.sentence), act.sentence


def test_acts_are_chosen_by_name_or_number_and_stay_in_their_order() -> None:
    assert [act.name for act in in_order("sidecar, 4")] == ["gateway", "sidecar"]
    with pytest.raises(InputError, match=r"act 'sidecars' is not known; .*did you mean 'sidecar'"):
        in_order("sidecars")


@pytest.mark.parametrize(
    "wrong",
    [
        {"event": "act"},
        {**ACT, "act": "b"},
        {**ACT, "at_s": float("nan")},
        {**ACT, "at_s": -1},
        {**ACT, "event": "explodes"},
        {**FOUND, "shown": "yes"},
        {**FOUND, "figure": ["1"]},
        {**BEGINS, "acts": [{"name": "a"}]},
        [],
    ],
)
def test_a_line_that_is_no_event_is_named(tmp_path: Path, wrong: Any) -> None:
    file = tmp_path / "play.jsonl"
    file.write_text(lines(BEGINS, wrong))
    with pytest.raises(InputError, match=rf"{file}:2: not an event of a play"):
        read(file)


def test_an_empty_file_holds_no_play(tmp_path: Path) -> None:
    (tmp_path / "play.jsonl").touch()
    with pytest.raises(InputError, match="holds no play"):
        read(tmp_path / "play.jsonl")


def test_the_board_has_the_state_after_each_event(tmp_path: Path) -> None:
    board, seen = tmp_path / "play.json", []
    recording = Recording(tmp_path / "play.jsonl", board, lambda _: seen.append(json.loads(board.read_text())))
    recording.add("begins", acts=BEGINS["acts"])
    recording.add("act", act="a")
    recording.add("live", text="0 of 1")
    recording.add("live", text="0 of 1")  # which is no news
    recording.add("paused")
    recording.add("found", **{name: FOUND[name] for name in ("act", "figure", "shown", "basis")})
    recording.add("ended", how="done")
    recording.close()

    assert [(each["state"], each["acts"][0]["state"], each["acts"][0]["figure"]) for each in seen] == [
        ("playing", "waits", ""),
        ("playing", "playing", ""),
        ("playing", "playing", "0 of 1"),
        ("paused", "playing", "0 of 1"),
        ("paused", "shown", "1 of 1"),
        ("done", "shown", "1 of 1"),
    ]
    assert seen[-1] == state_of(read(tmp_path / "play.jsonl"))


def test_a_replay_prints_each_act_with_its_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "play.jsonl"
    file.write_text(lines(BEGINS, ACT, {**FOUND, "figure": "1 \x1b[31mof 1", "doubt": "it was late"}))
    replay(read(file))
    printed = capsys.readouterr().out
    for text in ("1. A", "It is.", "in doubt: 1 \\x1b[31mof 1", "it was late", "1 request judged"):
        assert text in printed


def test_the_documentation_has_a_play_of_all_acts_and_its_picture() -> None:
    events = read(PLAYED)
    document = document_of(events)

    assert [act["name"] for act in document["acts"]] == [act.name for act in in_order()]
    assert {act["sentence"] for act in document["acts"]} == {act.sentence for act in ACTS.values()}
    assert all(act["shown"] for act in document["acts"])
    assert {act["name"]: (act["hit_callers"], act["of_callers"]) for act in document["acts"] if act["of_callers"]} == {
        "gateway": (5, 5),
        "sidecar": (1, 5),
    }
    assert PLAYED.with_suffix(".svg").read_text() == picture(events), (
        "`lab play --replay docs/play/play.jsonl --picture docs/play/play.svg` writes it"
    )
    assert "/work/" not in PLAYED.read_text()


def test_the_picture_has_each_act_and_moves_only_where_motion_is_welcome() -> None:
    drawn = picture(read(PLAYED))
    svg = ET.fromstring(drawn)  # noqa: S314 (made here)
    texts = "".join(svg.itertext())
    for act in in_order():
        assert act.title in texts
        assert act.title in svg.attrib["aria-label"]
    style, moving = drawn.split("@media (prefers-reduced-motion:no-preference)")
    assert "animation:" in moving
    assert "animation:" not in style


@pytest.mark.parametrize(("shown", "plays"), [((True,), 1), ((False, True), 2), ((False, False), 2)])
def test_what_was_not_shown_is_played_once_more(shown: tuple[bool, ...], plays: int) -> None:
    findings = [Finding(figure="2 of 5", shown=each, basis="", doubt="late") for each in shown]
    left, said = list(findings), list[str]()
    act = replace(ACTS["sidecar"], needs=(), play=lambda _: left.pop(0))
    assert played(act, cast("Stage", SimpleNamespace(topologies=(), doing=said.append))) is findings[-1]
    assert len(findings) - len(left) == plays
    assert said == ["2 of 5, not as the talk says (late): once more"] * (plays - 1)
