"""A run's evidence is sealed: a later edit is found, and the file is named."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lab.checkers import Claim
from lab.errors import RunError
from lab.history import Record, read_parquet, write_parquet
from lab.runs import Objectives, judge, runs_in
from lab.runs import seal as seals
from lab.runs.folder import HISTORY, PLAN, SPOOL, TOGETHER, RunFolder
from lab.runs.seal import SEAL, UNSEALED, Seal, fingerprint_of, forget_key, provide_key, seal
from tests.runs.commands import exit_status

if TYPE_CHECKING:
    Edit = Callable[[list[Record]], list[Record]]

COPIES, REVISIONS, SUMMARY = RunFolder.copies.name, RunFolder.revisions.name, RunFolder.summary.name
YEAR_NS = 365 * 24 * 3600 * 1_000_000_000


pytestmark = pytest.mark.usefixtures("version")


def _change(number: int, **changes: Any) -> Edit:
    return lambda records: [*records[:number], replace(records[number], **changes), *records[number + 1 :]]


EDITS: dict[str, Edit] = {
    "a status that does not exist": _change(7, status="BANANA"),
    "an answer relabelled": _change(7, status="UNAVAILABLE"),
    "done moved": lambda records: _change(7, done_ns=records[7].sent_ns + 1)(records),
    "a record replaced by another's copy": lambda records: [
        *records[:7],
        replace(records[8], sequence=7),
        *records[8:],
    ],
    "the key changed": _change(7, routing_key="rows.v2"),
    "all times a year later": lambda records: [
        replace(
            each,
            intended_ns=each.intended_ns + YEAR_NS,
            sent_ns=each.sent_ns + YEAR_NS,
            done_ns=each.done_ns + YEAR_NS,
        )
        for each in records
    ],
    "all but one failed": lambda records: [
        records[0],
        *(replace(each, status="UNAVAILABLE") for each in records[1:]),
    ],
}


def test_a_sealed_run_is_judged_and_says_by_which_key_and_which_run_it_is(
    run: Path, key: Ed25519PrivateKey, version: str
) -> None:
    result = judge(run)

    assert result.seal == Seal(
        key=fingerprint_of(key),
        known=True,
        run=run.name,
        lab="lab",
        command=Path(sys.argv[0]).name,
        commit=version,
    )
    assert result.to_document()["seal"] == f"sealed by key {fingerprint_of(key)}"
    assert result.to_document()["signed"]["run"] == run.name


def test_a_reader_sees_first_which_run_it_is(run: Path, version: str, capsys: pytest.CaptureFixture[str]) -> None:
    exit_status("check", run)

    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith(f"· run {run.name} of lab lab, ")
    assert version in first


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edited_history_cannot_be_judged(run: Path, edit: Edit, capsys: pytest.CaptureFixture[str]) -> None:
    write_parquet(edit(read_parquet(run / HISTORY)), run / HISTORY)

    _assert_not_judged(run, f"{run / HISTORY}: was changed after the run was sealed; restore it", capsys)


def _assert_not_judged(run: Path, error: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`lab check` and `lab report` exit with 3 and one line, which begins so."""
    for command in ("check", "report"):
        assert exit_status(command, run) == 3
        said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("·")]
        assert len(said) == 1
        assert said[0].startswith(f"lab: {error}")


def test_an_edited_summary_cannot_be_judged(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads((run / SUMMARY).read_text())
    (run / SUMMARY).write_text(json.dumps({**document, "verdict": "invalid"}))

    _assert_not_judged(run, f"{run / SUMMARY}: was changed after the run was sealed", capsys)


@pytest.mark.parametrize("name", [HISTORY, PLAN, REVISIONS, SUMMARY, SEAL])
def test_a_truncated_file_cannot_be_judged(run: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    content = (run / name).read_bytes()
    (run / name).write_bytes(content[: len(content) // 2])

    _assert_not_judged(run, f"{run / name}:", capsys)


def test_a_missing_file_and_one_that_was_put_in_are_named(run: Path) -> None:
    copies = run / COPIES
    copies.write_text("{}")
    with pytest.raises(RunError, match=rf"{copies}: was put in after the run was sealed"):
        judge(run)
    copies.unlink()
    (run / SUMMARY).unlink()
    with pytest.raises(RunError, match=rf"{run / SUMMARY}: is missing"):
        judge(run)


def test_an_edited_seal_does_not_fit_its_signature(run: Path) -> None:
    document = json.loads((run / SEAL).read_text())
    document["files"].pop(SUMMARY)
    (run / SEAL).write_text(json.dumps(document))

    with pytest.raises(RunError, match=rf"{run / SEAL}: its signature does not fit"):
        judge(run)


OTHER = Ed25519PrivateKey.generate()
FOREIGN = fingerprint_of(OTHER)


def test_a_run_that_is_sealed_anew_is_signed_by_an_unknown_key(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_parquet(read_parquet(run / HISTORY), run / HISTORY)
    seal(RunFolder(run), OTHER)

    assert exit_status("check", run, "--claims", "availability") == 2
    assert f"signed by an unknown key; --key {FOREIGN}" in capsys.readouterr().err
    assert exit_status("check", run, "--claims", "availability", "--key", FOREIGN) == _without_doubt(run)


def _without_doubt(run: Path) -> int:
    """The exit status by the claims alone."""
    return {"valid": 0, "invalid": 1, "unknown": 2}[
        judge(run, objectives=Objectives(claims=(Claim.AVAILABILITY,))).outcome
    ]


def test_another_key_than_the_one_that_is_asked_for_is_refused(
    run: Path, key: Ed25519PrivateKey, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status("check", run, "--key", FOREIGN) == 3
    assert f"is signed by key {fingerprint_of(key)}, and not by {FOREIGN}" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["x", FOREIGN[:16], FOREIGN + "0"], ids=["a word", "short", "long"])
def test_a_fingerprint_is_whole(text: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status("check", run, "--key", text) == 3
    assert "is not a fingerprint; write the 64 hexadecimal digits" in capsys.readouterr().err


def test_another_run_than_the_one_that_is_asked_for_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status("check", run, "--expect", "20231114T221321.000000Z") == 3
    assert f"is of run {run.name}, and not of 20231114T221321.000000Z" in capsys.readouterr().err
    assert exit_status("check", run, "--expect", run.name) != 3


def test_an_old_run_under_the_name_of_another_is_refused(run: Path) -> None:
    moved = run.with_name("20231114T221321.000000Z")
    run.rename(moved)
    with pytest.raises(RunError, match=f"is of run {run.name}, under the name of another"):
        judge(moved)
    judge(moved.rename(moved.with_name("kept")))


@pytest.mark.parametrize("option", [("--key", FOREIGN), ("--expect", "x")], ids=["key", "id"])
def test_without_a_seal_nothing_is_as_asked_for(
    option: tuple[str, str], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / SEAL).unlink()
    assert exit_status("check", run, *option) == 3
    assert f"{run / SEAL}: is missing" in capsys.readouterr().err


def test_an_unsealed_run_is_unknown_unless_that_is_accepted(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = _without_doubt(run)
    (run / SEAL).unlink()

    assert exit_status("check", run, "--claims", "availability") == 2
    assert "unsealed: nothing shows whether its files were changed" in capsys.readouterr().err
    assert exit_status("check", run, "--claims", "availability", "--unsealed") == status


def test_a_seal_of_an_earlier_release_is_verified_and_does_not_say_which_run_it_is(
    run: Path, key: Ed25519PrivateKey
) -> None:
    document = json.loads((run / SEAL).read_text())
    old = {"key": document["key"][:16], "public": document["public"], "files": document["files"]}
    signed = json.dumps(old, sort_keys=True, separators=(",", ":")).encode()
    (run / SEAL).write_text(json.dumps({**old, "signature": key.sign(signed).hex()}))

    assert judge(run).seal == Seal(key=fingerprint_of(key), known=True)


def test_a_name_of_another_key_is_forged(run: Path) -> None:
    other = Ed25519PrivateKey.generate()
    real = json.loads((run / SEAL).read_text())["key"]
    seal(RunFolder(run), other)
    document = json.loads((run / SEAL).read_text())
    document["key"] = real
    document.pop("signature")
    signed = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    (run / SEAL).write_text(json.dumps({**document, "signature": other.sign(signed).hex()}))

    with pytest.raises(RunError, match="its key is not the one that it names"):
        judge(run)


def test_a_run_of_a_lab_without_a_key_is_judged_and_says_so(run: Path, tmp_path: Path) -> None:
    (run / SEAL).unlink()
    moved = tmp_path / "older" / "runs" / "run"
    moved.parent.mkdir(parents=True)

    assert judge(run.rename(moved)).seal == UNSEALED


def test_the_list_of_parallel_runs_is_sealed(tmp_path: Path, key: Ed25519PrivateKey) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    RunFolder(folder).together = ["mesh-homepage", "mesh-search"]
    seal(RunFolder(folder), key)
    assert [each.name for each in runs_in(folder)] == ["mesh-homepage", "mesh-search"]

    (folder / TOGETHER).write_text('["mesh-homepage"]')
    with pytest.raises(RunError, match=rf"{folder / TOGETHER}: was changed"):
        runs_in(folder)


def test_labs_that_come_at_the_same_moment_make_room_for_their_keys_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    for number in range(1_500):
        (keys / f"{number:064x}").touch()
    monkeypatch.setattr(seals, "user_folder", lambda: tmp_path)
    labs = [tmp_path / f"lab-{number}" for number in range(16)]
    for each in labs:
        each.mkdir()
    with ThreadPoolExecutor(len(labs)) as pool:
        made = {fingerprint_of(key) for key in pool.map(provide_key, labs)}

    kept = {each.name for each in keys.iterdir()}
    assert made <= kept
    assert len(kept) <= 1_000 + len(labs)


def test_the_key_is_its_owners_alone_and_stays_until_the_lab_is_gone(tmp_path: Path) -> None:
    key = provide_key(tmp_path)
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert provide_key(tmp_path).private_bytes_raw() == key.private_bytes_raw()

    forget_key(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_goes_on_says_so(run: Path) -> None:
    (run / SEAL).unlink()
    (run / SPOOL).write_text("")

    with pytest.raises(RunError, match="is still running, or was killed; a run is sealed when it ends"):
        seals.verify(RunFolder(run))


def test_a_key_that_another_lab_removes_meanwhile_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seals, "user_folder", lambda: tmp_path)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "removed").symlink_to("nowhere")  # as listed, and then gone

    provide_key(tmp_path)
