"""Whoever is alone on the machine is alone, and the others wait no longer than for that."""

import threading
from pathlib import Path

from scenarios.framework.machine_lock import open_lock

_WITHIN_S = 10.0


def test_who_is_alone_waits_for_the_others_and_they_for_him(tmp_path: Path) -> None:
    has_begun, is_alone, is_back, happened = threading.Event(), threading.Event(), threading.Event(), list[str]()

    def other() -> None:
        with open_lock(tmp_path / "turn.lock") as theirs, theirs.shared():
            has_begun.set()
            with theirs.exclusive():
                happened.append("alone")
                is_alone.set()
                assert not is_back.wait(0.1), "nobody else is to get in meanwhile"
                happened.append("no longer alone")

    worker = threading.Thread(target=other)
    with open_lock(tmp_path / "turn.lock") as mine:
        with mine.shared():
            worker.start()
            assert has_begun.wait(_WITHIN_S)
            assert not is_alone.wait(0.1)
            happened.append("done")
        assert is_alone.wait(_WITHIN_S)
        with mine.shared():
            is_back.set()
            happened.append("back")
    worker.join(_WITHIN_S)

    assert happened == ["done", "alone", "no longer alone", "back"]
