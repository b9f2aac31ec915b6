"""How a publish looks: on a terminal, where there is none, and to scripts."""

import json

import pytest
from rich.console import Console

from lab.cli import routes
from lab.cli.output import silenced
from lab.client.admin_values import Acknowledgement, PublishProgress, Step, Waiting

CALLED_NS = 1_000_000_000
MS = 1_000_000


def _word(phase: str, ms: float, *, detail: str = "", waiting: Waiting | None = None) -> PublishProgress:
    nodes = (Acknowledgement("gateway-1", "gateway", CALLED_NS + 10 * MS, CALLED_NS + 12 * MS),)
    step = Step(phase, CALLED_NS + int(ms * MS), detail)
    return PublishProgress(7, step, waiting, nodes if phase == "converged" else (), CALLED_NS)


WORDS = [
    _word("stored", 1),
    _word("loaded", 100, waiting=Waiting(1, 2, ("replica b lacks rows.v2",))),
    _word("loaded", 200),
    _word("endpoints", 210),
]


def _rendered(words: list[PublishProgress]) -> str:
    view = routes.PublishView()
    for word in words:
        view.take(word)
    console = Console(width=100, force_terminal=False)
    with console.capture() as capture:
        console.print(routes._phases(view))
    return capture.get()


def test_a_terminal_shows_the_nodes_that_are_missing() -> None:
    seen = _rendered(WORDS[:2]).splitlines()

    assert "✓" in seen[0]
    assert "1.0 ms" in seen[0]
    assert "1 of 2; replica b lacks rows.v2" in seen[1]
    assert "✓" not in "".join(seen[1:])


def test_a_failure_ends_it() -> None:
    seen = _rendered([*WORDS[:2], _word("failed", 300, detail="replica b cannot load rows.v2")])

    assert "✗ failed" in seen
    assert "replica b cannot load rows.v2" in seen


def test_where_there_is_no_terminal_each_word_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with routes.publish_shown(as_json=False) as progress:
        for word in [*WORDS, WORDS[1], WORDS[1]]:
            progress(word)

    lines = [line.split(":", 1)[1].split() for line in capsys.readouterr().err.splitlines()]
    assert [line[0] for line in lines] == ["stored", "loaded", "loaded", "endpoints", "loaded"]
    assert lines[1][1:] == ["waiting:", "1", "of", "2;", "replica", "b", "lacks", "rows.v2"]


def test_scripts_get_times_in_milliseconds(capsys: pytest.CaptureFixture[str]) -> None:
    with silenced(), routes.publish_shown(as_json=True) as progress:
        for word in [*WORDS, _word("converged", 215)]:
            progress(word)

    output = capsys.readouterr()
    document = json.loads(output.out)
    assert output.err == ""
    assert document["revision"] == 7
    assert [(each["phase"], each["ms"]) for each in document["phases"]][-1] == ("converged", 215.0)
    assert document["nodes"] == [{"node": "gateway-1", "role": "gateway", "since_sent_ms": 2.0, "since_call_ms": 12.0}]
