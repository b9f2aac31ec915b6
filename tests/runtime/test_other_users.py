"""Other users of the machine: kept out of a lab of processes by modes alone, so each attack works without them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from lab.errors import UnitError
from lab.lab import Lab
from lab.roles import UNIX
from lab.runs import LoadOptions
from lab.runtime import user_folder
from lab.runtime.state import LabState
from lab.waiting import eventually
from tests.labs import address_of, ask, lab_up, states, status_of, write_spec
from tests.other_user import NOBODY, as_another_user

SIDECAR = "homepage-sidecar"
DENIED = "Permission denied"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with TemporaryDirectory() as folder:  # the folders of pytest are closed already
        home = Path(folder)
        home.chmod(0o755)
        os.umask(0o022)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(user_folder, "place", lambda: home / "user")
            with lab_up(home, spec=write_spec(home)) as lab:
                yield lab


@contextmanager
def opened(*paths: Path) -> Iterator[None]:
    """Files and folders as they are where nobody thinks of modes."""
    before = [path.stat().st_mode & 0o777 for path in paths]
    for path in paths:
        path.chmod(0o777)
    yield
    for path, mode in zip(paths, before, strict=True):
        if path.exists():
            path.chmod(mode)


def folders_of(socket: Path) -> tuple[Path, ...]:
    """The folders in which nobody else finds the socket."""
    return socket.parent, *socket.parents[1:3]


def socket_of(lab: Lab) -> Path:
    return Path(address_of(lab, SIDECAR).removeprefix(UNIX))


def test_only_without_both_modes_another_user_gets_to_a_sidecar(lab: Lab) -> None:
    sidecar = socket_of(lab)

    assert as_another_user("connect", str(sidecar)) == DENIED
    with opened(sidecar):
        assert as_another_user("connect", str(sidecar)) == DENIED
    with opened(*folders_of(sidecar)):
        assert as_another_user("connect", str(sidecar)) == DENIED
        with opened(sidecar):
            assert as_another_user("connect", str(sidecar)) == "connected"
    assert ask(lab).version == "v1"


def test_only_without_both_modes_another_user_ends_an_envoy(lab: Lab) -> None:
    page = socket_of(lab).with_suffix(".admin")
    quits = ("POST", str(page), "/quitquitquit")

    assert as_another_user(*quits) == DENIED
    with opened(*folders_of(page)):
        assert as_another_user(*quits) == DENIED
        assert states(lab)[SIDECAR] == "running"
        with opened(page):
            assert as_another_user(*quits) == "HTTP 200"
            eventually("it has ended", lambda: states(lab)[SIDECAR] == "exited", within=timedelta(seconds=20))
    lab.units.start(SIDECAR)
    eventually("it is back", lambda: status_of(lab) == "OK", within=timedelta(seconds=20))


def test_all_users_may_read_an_envoys_statistics_and_nobody_may_change_anything_there(lab: Lab) -> None:
    admin = LabState.of(lab.folder).plan.unit(SIDECAR).admin
    assert admin is not None

    for path in ("/ready", "/stats/prometheus", "/stats?format=json", "/config_dump", "/clusters", "/memory"):
        assert as_another_user("GET", admin.outside, path) == "HTTP 200", path
    for method in ("GET", "POST", "PUT", "DELETE"):
        assert as_another_user(method, admin.outside, "/quitquitquit") == "HTTP 404", method
        assert as_another_user(method, admin.outside, "/ready/../quitquitquit") == "HTTP 404", method
        assert as_another_user(method, admin.outside, "/statsquit") == "HTTP 404", method
    assert as_another_user("POST", admin.outside, "/stats") == "HTTP 404"
    assert states(lab)[SIDECAR] == "running"


def test_no_other_user_can_read_what_a_lab_and_a_run_write(lab: Lab) -> None:
    run = lab.load(LoadOptions(topology="mesh", caller="homepage", rate=20, duration_s=1)).folder
    log = lab.folder / "units" / SIDECAR / "access.log"

    written = [path for top in (lab.folder, lab.runs) for path in (top, *top.rglob("*")) if not path.is_symlink()]
    assert {lab.folder / "state.json", log, run / "plan.json"} <= set(written)
    modes = {oct(path.stat().st_mode & 0o777) + (" folder" if path.is_dir() else "") for path in written}
    assert modes == {"0o600", "0o700 folder"}
    assert as_another_user("read", str(log)) == DENIED
    with opened(lab.folder.parent, *[each for each in log.parents if lab.folder in (each, *each.parents)], log):
        assert as_another_user("read", str(log)) == "read"


def test_a_folder_that_another_user_has_made_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "user"
    monkeypatch.setattr(user_folder, "place", lambda: folder)
    for made in (0o777, 0o700):
        folder.mkdir()
        folder.chmod(made)
        os.chown(folder, NOBODY if made == 0o700 else os.getuid(), -1)
        try:
            with pytest.raises(UnitError, match=f"{folder}: other users can enter it, .*: remove it"):
                user_folder.user_folder()
        finally:
            folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(UnitError, match="remove it"):
        user_folder.user_folder()
    folder.unlink()
    assert user_folder.user_folder().stat().st_mode & 0o777 == 0o700
