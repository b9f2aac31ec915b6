"""What a lab wrote down about itself, as one process reads what another writes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lab.errors import LabError
from lab.lab import DEFAULT_SPEC
from lab.roles import Plan, Port, Unit
from lab.runtime.state import LabState, Running
from lab.spec import override, read_spec


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, LabState]:
    unit = Unit("homepage", "caller", ("python",), Port("127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:1"))
    spec = override(read_spec(DEFAULT_SPEC), security="plaintext")
    state = LabState("process", "lab.toml", spec, Plan((unit,), {}, {}))
    path = tmp_path / "state.json"
    state.save(path)
    return path, state


def test_what_another_process_writes_is_read_and_what_nobody_changes_is_read_once(
    written: tuple[Path, LabState], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, state = written
    assert LabState.load(path) == state
    with monkeypatch.context() as patched:
        patched.setattr(json, "loads", lambda _: pytest.fail("was read again"))
        assert LabState.load(path) == state
    # Of one length each, and as fast one after the other as can be.
    for pid in range(10_000, 10_100):
        changed = replace(state, running={"homepage": Running(pid=pid, created=1.0)})
        changed.save(path)
        assert LabState.load(path) == changed


def test_a_file_that_is_damaged_later_is_not_taken_for_what_it_was(written: tuple[Path, LabState]) -> None:
    path, state = written
    assert LabState.load(path) == state
    path.write_text(path.read_text().replace("{", "[", 1))
    with pytest.raises(LabError, match="damaged"):
        LabState.load(path)
    path.unlink()
    assert LabState.load(path) is None
