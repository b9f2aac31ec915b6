"""Whoever can write a run's folder tries to show a reader, who has fingerprint and id, another run than there was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lab.runs.folder import HISTORY, PLAN, SPOOL, RunFolder
from lab.runs.seal import SEAL, fingerprint_of, seal
from tests.runs.commands import exit_status

ASKED = ("--claims", "availability")


@pytest.fixture
def other(run: Path, key: Ed25519PrivateKey) -> Path:
    """An earlier run of the same lab, which answered more."""
    folder = run.with_name("20231113T221320.000000Z")
    shutil.copytree(run, folder)
    earlier = RunFolder(folder)
    earlier.history = earlier.history[:300]
    seal(earlier, key)
    return folder


def _edit(run: Path, **changes: Any) -> None:
    document = json.loads((run / SEAL).read_text())
    (run / SEAL).write_text(json.dumps({**document, **changes}))


def _another_history(run: Path, other: Path) -> None:
    shutil.copy(other / HISTORY, run / HISTORY)


def _another_history_with_its_seal(run: Path, other: Path) -> None:
    shutil.copy(other / HISTORY, run / HISTORY)
    shutil.copy(other / SEAL, run / SEAL)


def _another_run_under_this_name(run: Path, other: Path) -> None:
    shutil.rmtree(run)
    other.rename(run)


def _another_run_in_a_folder_without_a_date(run: Path, other: Path) -> None:
    shutil.rmtree(run)
    other.rename(run.with_name("kept"))
    run.symlink_to("kept")


def _another_signature(run: Path, other: Path) -> None:
    _edit(run, signature=json.loads((other / SEAL).read_text())["signature"])


def _another_public_key(run: Path, other: Path) -> None:
    del other
    _edit(run, public=Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex())


def _another_window(run: Path, other: Path) -> None:
    del other
    _edit(run, until_ns=json.loads((run / SEAL).read_text())["until_ns"] + 1)


def _fewer_files_sealed(run: Path, other: Path) -> None:
    shutil.copy(other / HISTORY, run / HISTORY)
    files = json.loads((run / SEAL).read_text())["files"]
    _edit(run, files={name: digest for name, digest in files.items() if name != HISTORY})


def _a_link_in_the_place_of_evidence(run: Path, other: Path) -> None:
    (run / HISTORY).unlink()
    (run / HISTORY).symlink_to(other / HISTORY)


def _a_link_in_the_place_of_the_seal(run: Path, other: Path) -> None:
    _another_history(run, other)
    (run / SEAL).unlink()
    (run / SEAL).symlink_to(other / SEAL)


def _evidence_of_a_checker_that_was_not_there(run: Path, other: Path) -> None:
    del other
    (run / "gathered-mine.json").write_text("{}")


def _an_engine_with_a_file_less(run: Path, other: Path) -> None:
    del other
    plan = json.loads((run / PLAN).read_text())
    plan["engine"]["files"] = {"locustfile.py": "locustfile.py"}
    (run / PLAN).write_text(json.dumps(plan))


def _a_spool_beside_no_seal(run: Path, other: Path) -> None:
    del other
    (run / SEAL).unlink()
    (run / SPOOL).write_text("")


def _signed_by_nobody(run: Path, other: Path) -> None:
    del other
    _edit(run, key="", public="", signature="")


def _sealed_by_a_key_that_is_named_as_the_real_one(run: Path, other: Path) -> None:
    del other
    real = json.loads((run / SEAL).read_text())
    seal(RunFolder(run), Ed25519PrivateKey.generate())
    _edit(run, key=real["key"])


Forgery = Callable[[Path, Path], None]
FORGERIES: list[Forgery] = [each for name, each in list(globals().items()) if name.startswith(("_a", "_f", "_s"))]


def test_there_are_at_least_ten_and_the_run_itself_passes(run: Path, key: Ed25519PrivateKey) -> None:
    assert len(FORGERIES) >= 10
    assert exit_status("check", run, "--key", fingerprint_of(key), "--expect", run.name, *ASKED) == 0


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda each: each.__name__.strip("_"))
def test_a_reader_with_the_fingerprint_and_the_id_is_not_deceived(
    forge: Forgery, run: Path, other: Path, key: Ed25519PrivateKey, capsys: pytest.CaptureFixture[str]
) -> None:
    forge(run, other)

    assert exit_status("check", run, "--key", fingerprint_of(key), "--expect", run.name, *ASKED) == 3
    assert "Traceback" not in capsys.readouterr().err
