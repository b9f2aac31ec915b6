"""Nothing is skipped where nothing may be missing."""

from __future__ import annotations

import pytest

from lab import CHECKOUT
from tests.missing import missing


def test_what_is_missing_fails_with_ci_and_skips_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no engine"):
        missing("no engine")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="no engine"):
        missing("no engine")


def test_nothing_else_skips_a_test() -> None:
    words = ("pytest." + "skip(", "mark." + "skip")
    files = [*(CHECKOUT / "tests").rglob("*.py"), *(CHECKOUT / "scenarios").rglob("*.py")]
    skipping = {
        path.relative_to(CHECKOUT).as_posix() for path in files if any(each in path.read_text() for each in words)
    }
    # A lab that is up and named by --lab may be of another runtime than a scenario needs; CI names none.
    assert skipping == {"tests/missing.py", "scenarios/framework/fixtures.py"}
