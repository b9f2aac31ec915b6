"""Seals a run's evidence with the lab's own key, and verifies who vouches for it, and that nothing was changed since.

``seal.json`` in a run's folder has the run's identity, the digest of each file of evidence, and a signature (Ed25519)
of all that. The private key is in the lab's folder, so the person who ran the lab can sign anything. A reader can tell
whose signature it is by the key's fingerprint, the SHA-256 of the public key: given on the command line, or kept in the
folder of this user, outside of all runs, where each lab's key is noted when it is made. Where there is an SSH key,
:mod:`lab.runs.ssh_signature` signs the seal as well.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from lab.errors import RunError
from lab.reading import open_regular, read_json
from lab.runs.ssh_signature import sign, signer_of
from lab.runs.version import lab_version
from lab.runtime.user_folder import user_folder

if TYPE_CHECKING:
    from lab.runs.folder import RunFolder

SEAL = "seal.json"

_KEY = "evidence.key"
_KNOWN, _MOST_KNOWN = "keys", 1_000
_SHORT_HEX = 16  # of a fingerprint in seals before 1.3
_RUN_ID = re.compile(r"\d{8}T\d{6}\.\d{6}Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """Who vouches for a run, and what run it is; all empty for one that is not sealed.

    Attributes:
        key: fingerprint of the key, 64 hexadecimal digits.
        known: whether the key is the one that was asked for, or is noted for this user.
        run: the run's id: the name of its folder, when it was sealed; empty for runs before 1.3, as are the next.
        lab: name of the lab.
        command: that drove the run.
        commit: version of the lab, with the commit of a checkout.
        from_ns: the run's beginning, Unix nanoseconds.
        until_ns: its end.
        signer: who has signed the seal by SSH, of those whom the reader allows; empty if the reader names none.
    """

    key: str = ""
    known: bool = False
    run: str = ""
    lab: str = ""
    command: str = ""
    commit: str = ""
    from_ns: int = 0
    until_ns: int = 0
    signer: str = ""

    def __str__(self) -> str:
        """By whom it is sealed, in words."""
        if not self.key:
            return "unsealed: nothing shows whether its files were changed since the run"
        return f"sealed by key {self.key}" + (f", signed by {self.signer}" if self.signer else "")

    @property
    def title(self) -> str:
        """Which run it is, in one line."""
        if not self.run:
            return f"a run that does not say which it is, {self}"
        window = self.from_ns, self.until_ns
        began, ended = (f"{datetime.fromtimestamp(each / 1e9, UTC):%Y-%m-%d %H:%M:%S}" for each in window)
        when = f", {began} to {ended} UTC" if self.from_ns else ""  # simultaneous runs have theirs, the whole none
        return f"run {self.run} of lab {self.lab}{when}, by `{self.command}` at {self.commit}, {self}"

    @property
    def doubt(self) -> str:
        """Why a reader cannot rely on it, and what to do; empty if a reader can."""
        if self.known:
            return ""
        if not self.key:
            return f"{self}; --unsealed judges it anyway"
        return f"signed by an unknown key; --key {self.key} if the person who ran the lab told you this fingerprint"


UNSEALED = Seal()
_IDENTITY = [each.name for each in fields(Seal) if each.name not in {"key", "known", "signer"}]


def provide_key(lab: Path) -> Ed25519PrivateKey:
    """Returns the evidence key of the lab in this folder; creates it if there is none, and notes it for this user."""
    path = lab / _KEY
    if not path.exists():
        descriptor, new = tempfile.mkstemp(prefix=_KEY, dir=lab)  # readable by its owner alone
        with os.fdopen(descriptor, "wb") as file:
            file.write(Ed25519PrivateKey.generate().private_bytes_raw())
        with suppress(FileExistsError):
            os.link(new, path)  # atomic, and fails if another process was first
        Path(new).unlink()
    key = Ed25519PrivateKey.from_private_bytes(path.read_bytes())
    _note(fingerprint_of(key), lab)
    return key


def _note(fingerprint: str, lab: Path) -> None:
    keys = user_folder() / _KNOWN
    keys.mkdir(exist_ok=True)
    if not (keys / fingerprint).exists():
        (keys / fingerprint).write_text(f"{lab.absolute()}\n")
        for old in sorted(keys.iterdir(), key=_noted_at)[:-_MOST_KNOWN]:
            old.unlink(missing_ok=True)


def _noted_at(key: Path) -> float:
    try:
        return key.stat().st_mtime
    except FileNotFoundError:  # another lab that was brought up has removed it
        return 0.0


def fingerprint_of(key: Ed25519PrivateKey) -> str:
    """Returns a key's fingerprint: the SHA-256 of its public part, in hexadecimal digits."""
    return sha256(key.public_key().public_bytes_raw()).hexdigest()


def forget_key(lab: Path) -> None:
    """Removes a lab's key. What it has signed can still be verified."""
    (lab / _KEY).unlink(missing_ok=True)


def seal(run: RunFolder, key: Ed25519PrivateKey) -> None:
    """Writes the seal of a run's folder over its identity and those of its files that exist.

    Raises:
        InputError: the environment names an SSH key that cannot sign it.
    """
    window = run.window
    identity = Seal(
        key=fingerprint_of(key),
        run=_id_of(run.path),
        lab=_lab_of(run.path),
        command=_command(),
        commit=lab_version(),
        from_ns=window.from_ns,
        until_ns=window.until_ns,
    )
    sealed: dict[str, Any] = {
        "key": identity.key,
        "public": key.public_key().public_bytes_raw().hex(),
        **{name: value for name, value in asdict(identity).items() if name in _IDENTITY},
        "files": {name: _digest(run.path / name) for name in run.sealed if (run.path / name).exists()},
    }
    document = {**sealed, "signature": key.sign(_canonical(sealed)).hex()}
    (run.path / SEAL).write_text(json.dumps(document, indent=1))
    sign(run.path / SEAL)


def _id_of(folder: Path) -> str:
    """A run's id; one of several at the same time has that of all before its own name."""
    folder = folder.resolve()
    return f"{folder.parent.name}/{folder.name}" if _RUN_ID.fullmatch(folder.parent.name) else folder.name


def _lab_of(folder: Path) -> str:
    folder = folder.resolve()
    return (folder.parents[1] if _RUN_ID.fullmatch(folder.parent.name) else folder.parent).name


def _command() -> str:
    program = Path(sys.argv[0]).name
    return shlex.join([program, *sys.argv[1:]]) if program == "lab" else program


def verify(run: RunFolder, *, key: str = "", expect: str = "", signers: Path | None = None) -> Seal:
    """Returns how a run's folder is sealed; :data:`UNSEALED` if it is not.

    Every file that can be evidence, if it exists, must be sealed.

    Args:
        run: its folder.
        key: fingerprint that the seal must have; any if left out.
        expect: id that the run must have; any if left out.
        signers: file of those who may have signed the seal by SSH, one of whom must have; nobody is asked for if left
            out.

    Raises:
        InputError: the file of signers cannot be read.
        RunError: a file is not as it was sealed, the seal is forged, or key or id differ; names the file.
    """
    folder, path = run.path, run.path / SEAL
    if not path.exists():
        if run.spools:
            raise RunError(f"{folder}: is still running, or was killed; a run is sealed when it ends")
        if key or expect or signers:
            raise RunError(f"{path}: is missing, so no key vouches for the run, and no id; restore it")
        return UNSEALED
    seal, files = _verified_seal(path, key)
    _require_asked(seal, path, key, expect)
    if signers:
        seal = replace(seal, known=True, signer=signer_of(path, signers))
    for name, digest in files.items():
        file = folder / name
        if not file.exists():
            raise RunError(f"{file}: is missing, and was there when the run was sealed; restore it")
        if _digest(file) != digest:
            raise RunError(f"{file}: was changed after the run was sealed; restore it")
    for name in run.sealed:
        if name not in files and (folder / name).exists():
            raise RunError(f"{folder / name}: was put in after the run was sealed; remove it")
    return seal


def _require_asked(seal: Seal, path: Path, key: str, expect: str) -> None:
    """Raises RunError unless a seal is by the key, and of the run, that a reader asks for."""
    if key and seal.key != key:
        raise RunError(f"{path}: is signed by key {seal.key}, and not by {key}")
    if expect and seal.run != expect:
        raise RunError(f"{path}: is of run {seal.run or 'without an id'}, and not of {expect}")
    name = _id_of(path.parent)
    if seal.run and _RUN_ID.search(name) and name != seal.run:
        raise RunError(f"{path}: is of run {seal.run}, under the name of another; give the folder back its name")


def _verified_seal(path: Path, asked: str) -> tuple[Seal, dict[str, str]]:
    """Returns a seal whose signature fits, and the digests in it.

    Raises:
        RunError: it is damaged, or its signature does not fit.
    """
    try:
        document = read_json(path)
        signature = bytes.fromhex(document.pop("signature"))
        public = bytes.fromhex(document["public"])
        Ed25519PublicKey.from_public_bytes(public).verify(signature, _canonical(document))
        files: dict[str, str] = dict(document["files"])
        identity: dict[str, Any] = {
            name: int(document[name]) if name.endswith("_ns") else str(document[name])
            for name in _IDENTITY
            if name in document
        }
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path}: no seal of a run ({type(error).__name__}); restore it") from error
    except InvalidSignature as error:
        raise RunError(f"{path}: its signature does not fit: it was changed after the run; restore it") from error
    fingerprint = sha256(public).hexdigest()
    if document["key"] not in {fingerprint, fingerprint[:_SHORT_HEX]}:
        raise RunError(f"{path}: its key is not the one that it names; restore it")
    known = fingerprint == asked if asked else (user_folder() / _KNOWN / fingerprint).exists()
    return Seal(key=fingerprint, known=known, **identity), files


def _digest(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}; restore it") from error


def _canonical(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
