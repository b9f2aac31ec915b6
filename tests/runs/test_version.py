"""The version names the commit, and whether what runs differs from it."""

import subprocess
from pathlib import Path

import pytest

from lab.runs import version


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(version, "CHECKOUT", tmp_path)
    (tmp_path / "docs" / "figures").mkdir(parents=True)
    for name in ("driver.py", "README.md", "docs/figures.json", "docs/figures/driver.svg"):
        (tmp_path / name).write_text("as committed")
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for command in (("init", "--quiet"), ("add", "."), (*identity, "commit", "--quiet", "--message", "one")):
        subprocess.run(("git", *command), cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("", False),
        ("driver.py", True),
        ("new.py", True),
        # Figures of two benches, measured one after the other, are of the same code.
        ("README.md", False),
        ("docs/figures.json", False),
        ("docs/figures/driver.svg", False),
        ("docs/figures/new.svg", False),
        ("tests/test_driver.py", False),
    ],
)
def test_a_version_says_if_code_was_not_committed(checkout: Path, file: str, *, changed: bool) -> None:
    if file:
        (checkout / file).parent.mkdir(exist_ok=True)
        (checkout / file).write_text("changed since")

    found = version.lab_version.__wrapped__()

    assert found.endswith(version.CHANGED) is changed
    assert ("(" in found, ")" in found) == (True, True)


def test_without_a_checkout_it_names_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "CHECKOUT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))

    assert "(" not in version.lab_version.__wrapped__()
