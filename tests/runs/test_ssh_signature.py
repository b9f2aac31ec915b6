"""CI vouches for its runs by an SSH key, and a reader who has the public one tells a forged run from them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lab.errors import InputError
from lab.runs import judge
from lab.runs.folder import RunFolder
from lab.runs.seal import SEAL, seal
from lab.runs.ssh_signature import KEY, NAMESPACE, signature_of
from tests.runs.commands import exit_status

CI, BY_AVAILABILITY = "ci@example.org", ("--claims", "availability")


def _new_key(folder: Path, name: str) -> Path:
    key = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key, "-C", name], check=True)
    return key


def _allowing(key: Path, folder: Path, *options: str) -> Path:
    signers = folder / "allowed_signers"
    public = key.with_suffix(".pub").read_text()
    all_options = ",".join([f'namespaces="{NAMESPACE}"', *options])
    signers.write_text(f"{CI} {all_options} {public}")
    return signers


@pytest.fixture
def ci_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    key = _new_key(tmp_path, "ci")
    monkeypatch.setenv(KEY, str(key))
    return key


@pytest.fixture
def signed(run: Path, ci_key: Path) -> Path:
    """The same run, sealed by a lab that its reader does not know, and signed by CI."""
    del ci_key
    seal(RunFolder(run), Ed25519PrivateKey.generate())
    return run


def test_a_reader_with_the_public_key_knows_who_vouches(
    signed: Path, ci_key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status("check", signed, *BY_AVAILABILITY) == 2
    assert "signed by an unknown key" in capsys.readouterr().err

    found = judge(signed, signers=_allowing(ci_key, tmp_path))

    assert (found.seal.signer, found.seal.known, found.seal.doubt) == (CI, True, "")
    assert exit_status("check", signed, *BY_AVAILABILITY, "--signers", tmp_path / "allowed_signers") == 0
    assert f", signed by {CI}" in capsys.readouterr().err


def _sealed_anew(run: Path, ci_key: Path) -> None:
    del ci_key
    signature = signature_of(run / SEAL).read_bytes()
    os.environ.pop(KEY)
    seal(RunFolder(run), Ed25519PrivateKey.generate())
    signature_of(run / SEAL).write_bytes(signature)


def _by_another(run: Path, ci_key: Path) -> None:
    os.environ[KEY] = str(_new_key(ci_key.parent, "other"))
    seal(RunFolder(run), Ed25519PrivateKey.generate())


def _for_another_purpose(run: Path, ci_key: Path) -> None:
    signature_of(run / SEAL).unlink()
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-f", ci_key, "-n", "git", run / SEAL], check=True)


def _lost(run: Path, ci_key: Path) -> None:
    del ci_key
    signature_of(run / SEAL).unlink()


def _a_pipe(run: Path, ci_key: Path) -> None:
    _lost(run, ci_key)
    os.mkfifo(signature_of(run / SEAL))


def _unsealed(run: Path, ci_key: Path) -> None:
    del ci_key
    (run / SEAL).unlink()


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (_sealed_anew, "it does not fit: the seal was changed"),
        (_by_another, "is by none of"),
        (_for_another_purpose, "it does not fit"),
        (_lost, "none of"),
        (_a_pipe, "cannot be read"),
        (_unsealed, "is missing"),
    ],
)
def test_what_ci_has_not_signed_is_refused(
    forge: object, reason: str, signed: Path, ci_key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(forge)
    forge(signed, ci_key)

    assert exit_status("check", signed, "--signers", _allowing(ci_key, tmp_path)) == 3
    assert reason in capsys.readouterr().err


def test_a_key_whose_time_is_over_vouches_for_nothing(signed: Path, ci_key: Path, tmp_path: Path) -> None:
    signers = _allowing(ci_key, tmp_path, 'valid-before="20200101"')
    assert exit_status("check", signed, "--signers", signers) == 3


def test_files_that_cannot_be_read_are_named(signed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status("check", signed, "--signers", tmp_path / "none") == 3
    assert "--signers: " in capsys.readouterr().err


def test_a_key_that_cannot_sign_is_named(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "a passphrase", "-f", secret], check=True)
    for key in (tmp_path / "none", secret):
        monkeypatch.setenv(KEY, str(key))
        with pytest.raises(InputError, match=f"{KEY}: {key}: "):
            seal(RunFolder(run), Ed25519PrivateKey.generate())
