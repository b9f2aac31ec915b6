"""Reservations and locks of this user, in a folder that nobody else can enter."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from types import SimpleNamespace

import pytest

from lab.errors import UnitError
from lab.runtime import ports, reservations, user_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(user_folder, "place", lambda: tmp_path / "user")
    return user_folder.user_folder()


@pytest.mark.parametrize("content", [b"[]", b'{"/": 1}', b'{"/": ["a"]}', b"\xff", b"{", b"[" * 100_000, b"null"])
def test_a_damaged_file_is_named_and_nothing_is_reserved(content: bytes, folder: Path) -> None:
    (folder / "ports.json").write_bytes(content)

    with pytest.raises(UnitError, match=rf"^{folder}/ports\.json(:\d+)?: .*; remove it$"):
        ports.reserve(["a"], folder)
    assert (folder / "ports.json").read_bytes() == content


def test_a_reservation_of_a_folder_that_is_gone_ends(folder: Path) -> None:
    for owner in (folder, folder / "gone"):
        with reservations.locked("ports") as reserved:
            reserved[str(owner)] = [1]
    with reservations.locked("ports") as reserved:
        assert reserved == {str(folder): [1]}


def test_who_holds_a_lock_is_named(folder: Path) -> None:
    with user_folder.locked("ports"):
        message = rf"^{folder}/ports\.lock: held by process {os.getpid()} for 0 s; end it, or try again$"
        with pytest.raises(UnitError, match=message), user_folder.locked("ports", within_s=0):
            pass
    with user_folder.locked("ports", within_s=0):
        pass


def test_the_place_depends_on_no_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = user_folder.place()
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "LAB_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    assert user_folder.place() == before


@pytest.mark.parametrize("home", ["/nonexistent", "/proc/1", "too long"])
def test_a_user_without_a_home_folder_has_one_by_its_number(
    home: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / ("x" * 60) if home == "too long" else Path(home)
    if home == "too long":
        folder.mkdir()
    monkeypatch.setattr(pwd, "getpwuid", lambda _: SimpleNamespace(pw_dir=str(folder)))
    assert user_folder.place() == user_folder._FALLBACK / f"routing-lab-{os.getuid()}"
