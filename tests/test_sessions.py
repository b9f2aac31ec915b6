"""What a session of pytest comes to here."""

from pathlib import Path

import pytest

from lab import CHECKOUT
from tests.sessions import run_pytest

BREAKS = """
def pytest_runtest_protocol(item):
    if item.name == "test_b":
        raise RuntimeError("a plugin is broken")
"""


@pytest.mark.parametrize("options", [(), ("-n", "2")])
def test_one_that_breaks_on_the_way_does_not_pass(tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "breaks.py").write_text(BREAKS)
    (tmp_path / "test_some.py").write_text("def test_a(): pass\n\ndef test_b(): pass\n")
    (tmp_path / "conftest.py").write_text((CHECKOUT / "conftest.py").read_text())

    done = run_pytest(*options, "-p", "no:cacheprovider", "-p", "breaks", cwd=tmp_path, imports=tmp_path)

    assert "a plugin is broken" in done.stdout + done.stderr
    assert done.returncode == pytest.ExitCode.INTERNAL_ERROR
