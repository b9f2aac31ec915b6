"""The lab's own part of the audit log."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from lab.errors import LabError
from lab.faults import Journal
from lab.faults.journal import JOURNAL


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


def test_acts_are_kept_with_user_and_outcome(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody-else")
    with journal.doing("fault inject kill", "ml-cluster-1-a", "kill-1, level severe, seed 7"):
        [begun] = journal.acts()
    with pytest.raises(LabError, match="no"), journal.doing("unit pause", "gateway-1"):
        raise LabError("no such thing")
    with pytest.raises(KeyboardInterrupt), journal.doing("unit resume", "gateway-1"):
        raise KeyboardInterrupt

    acts = journal.acts()
    assert [each.number for each in acts] == [1, 2, 3]
    assert [each.status for each in acts] == ["OK", "FAILED", "CANCELLED"]
    assert acts[1].reason == "no such thing"
    assert acts[0].at_ns < acts[1].at_ns < acts[2].at_ns
    assert (
        *(acts[0].what, acts[0].unit, acts[0].detail),
        acts[0].kept_by,
    ) == ("fault inject kill", "ml-cluster-1-a", "kill-1, level severe, seed 7", "lab")
    # It was written down before it was done, by the kernel's word and not by the environment's.
    assert begun.status == ""
    assert begun.who == f"{pwd.getpwuid(os.getuid()).pw_name} (uid {os.getuid()})"


def test_what_cannot_be_written_down_is_not_done(tmp_path: Path) -> None:
    done = []
    with (
        pytest.raises(LabError, match="acts that cannot be logged are refused"),
        Journal(tmp_path / "nowhere").doing("unit kill", "gateway-1"),
    ):
        done.append(True)
    assert not done


def test_a_line_that_was_cut_off_is_shown_and_spoils_no_other(journal: Journal, tmp_path: Path) -> None:
    with journal.doing("unit kill", "gateway-1"):
        pass
    with (tmp_path / JOURNAL).open("a") as file:
        file.write('{"number": 2, "at_ns')
    with journal.doing("unit start", "gateway-1"):
        pass

    assert [each.status for each in journal.acts()] == ["OK", "DAMAGED", "OK"]
    assert [each.what for each in journal.acts()] == ["unit kill", "", "unit start"]


def test_nobody_else_of_this_machine_may_read_it(journal: Journal, tmp_path: Path) -> None:
    with journal.doing("unit kill", "gateway-1"):
        pass
    assert (tmp_path / JOURNAL).stat().st_mode & 0o777 == 0o600
