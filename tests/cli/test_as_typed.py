"""Commands that are printed can be typed as they are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lab.cli.output import as_typed

BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    ("path", "folder", "typed"),
    [
        (str(BIN), "/", "lab"),
        ("/nowhere", "/usr", str(BIN / "lab")),
        ("/nowhere", str(BIN.parent.parent), str((BIN / "lab").relative_to(BIN.parent.parent))),
    ],
    ids=["on the PATH", "elsewhere", "in the checkout"],
)
def test_lab_is_named_as_this_shell_finds_it(
    path: str, folder: str, typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", path)
    monkeypatch.chdir(folder)

    assert as_typed("lab") == typed


def test_another_lab_on_the_path_is_not_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lab").write_text("#!/bin/sh\n")
    (tmp_path / "lab").chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert as_typed("lab").endswith("bin/lab")
