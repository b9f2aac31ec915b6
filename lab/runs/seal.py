"""Seals a run's evidence with the lab's own key, and verifies that nothing was changed since.

``seal.json`` in a run's folder has the digest of each file of evidence and a signature (Ed25519) of them all. The
private key is in the lab's folder; its public part lies beside the lab's runs, one file a key, as a lab that is brought
up again has a new one.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from lab.errors import RunError
from lab.reading import open_regular, read_json

if TYPE_CHECKING:
    from lab.runs.folder import RunFolder

SEAL = "seal.json"
UNSEALED = "unsealed: nothing shows whether its files were changed since the run"

_KEY = "evidence.key"
_PUBLIC = "evidence-{}.pub"
_FINGERPRINT_HEX = 16


def provide_key(lab: Path) -> Ed25519PrivateKey:
    """Returns the evidence key of the lab in this folder; creates it if there is none."""
    path = lab / _KEY
    if not path.exists():
        descriptor, new = tempfile.mkstemp(prefix=_KEY, dir=lab)  # readable by its owner alone
        with os.fdopen(descriptor, "wb") as file:
            file.write(Ed25519PrivateKey.generate().private_bytes_raw())
        with suppress(FileExistsError):
            os.link(new, path)  # atomic, and fails if another process was first
        Path(new).unlink()
    return Ed25519PrivateKey.from_private_bytes(path.read_bytes())


def forget_key(lab: Path) -> None:
    """Removes a lab's key. What it has signed can still be verified."""
    (lab / _KEY).unlink(missing_ok=True)


def seal(run: RunFolder, key: Ed25519PrivateKey) -> None:
    """Writes the seal of a run's folder over those of its files that exist, and the public key beside the folder."""
    public = key.public_key().public_bytes_raw()
    fingerprint = _fingerprint(public)
    (run.path.parent / _PUBLIC.format(fingerprint)).write_text(public.hex())
    sealed: dict[str, Any] = {
        "key": fingerprint,
        "public": public.hex(),
        "files": {name: _digest(run.path / name) for name in run.sealed if (run.path / name).exists()},
    }
    document = {**sealed, "signature": key.sign(_canonical(sealed)).hex()}
    (run.path / SEAL).write_text(json.dumps(document, indent=1))


def verify(run: RunFolder) -> str:
    """Returns in words how a run's folder is sealed; :data:`UNSEALED` for one from before its lab had a key.

    Every file that can be evidence, if it exists, must be sealed.

    Raises:
        RunError: a file is not as it was sealed, or the seal is forged; names the file.
    """
    folder, path = run.path, run.path / SEAL
    known = {key.name for parent in folder.resolve().parents[:2] for key in parent.glob(_PUBLIC.format("*"))}
    if not path.exists():
        if known:
            raise RunError(f"{path}: is missing: it was removed, or the run did not end; restore it, or run again")
        return UNSEALED
    fingerprint, files = _verified_seal(path)
    for name, digest in files.items():
        file = folder / name
        if not file.exists():
            raise RunError(f"{file}: is missing, and was there when the run was sealed; restore it")
        if _digest(file) != digest:
            raise RunError(f"{file}: was changed after the run was sealed; restore it")
    for name in run.sealed:
        if name not in files and (folder / name).exists():
            raise RunError(f"{folder / name}: was put in after the run was sealed; remove it")
    if not known:
        return f"sealed by key {fingerprint}, which is not beside the run"
    if _PUBLIC.format(fingerprint) not in known:
        raise RunError(f"{path}: is signed by key {fingerprint}, which is not one of those beside the lab's runs")
    return f"sealed by key {fingerprint}"


def _verified_seal(path: Path) -> tuple[str, dict[str, str]]:
    """Returns the fingerprint of the key that signed a seal, and the digests in it.

    Raises:
        RunError: it is damaged, or its signature does not fit.
    """
    try:
        document = read_json(path)
        signature = bytes.fromhex(document.pop("signature"))
        public = bytes.fromhex(document["public"])
        Ed25519PublicKey.from_public_bytes(public).verify(signature, _canonical(document))
        files: dict[str, str] = dict(document["files"])
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path}: no seal of a run ({type(error).__name__}); restore it") from error
    except InvalidSignature as error:
        raise RunError(f"{path}: its signature does not fit: it was changed after the run; restore it") from error
    fingerprint = _fingerprint(public)
    if document["key"] != fingerprint:
        raise RunError(f"{path}: its key is not the one that it names; restore it")
    return fingerprint, files


def _digest(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}; restore it") from error


def _fingerprint(public: bytes) -> str:
    return sha256(public).hexdigest()[:_FINGERPRINT_HEX]


def _canonical(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
