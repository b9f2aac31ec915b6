"""What a session of pytest comes to here."""

import subprocess
import sys
from pathlib import Path

import pytest

from lab import CHECKOUT

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

    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-p", "no:cacheprovider", "-p", "breaks"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert "a plugin is broken" in done.stdout + done.stderr
    assert done.returncode == pytest.ExitCode.INTERNAL_ERROR
