"""Signs the seal of a run by ``ssh-keygen -Y``, as CI does where it has an SSH key, and says whose signature it is.

``seal.json.sig`` is an SSH signature of ``seal.json`` in the namespace :data:`NAMESPACE`. A reader has the public keys
of those who may vouch for runs in an ``allowed_signers`` file, see ``ssh-keygen(1)``.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from lab.errors import InputError, RunError
from lab.reading import MAX_SMALL_BYTES, read_bytes

NAMESPACE = "run@routing-lab"
KEY = "LAB_SIGNING_KEY"
"""Names the environment variable with the path of the private key; without it nothing is signed."""

_TIMEOUT_S = 30.0


def signature_of(file: Path) -> Path:
    """Returns where the signature of a file is."""
    return file.with_name(f"{file.name}.sig")


def sign(file: Path) -> None:
    """Writes a file's signature by the key that the environment names; removes an older one if it names none.

    Raises:
        InputError: ssh-keygen cannot sign with that key.
    """
    key, signature = os.environ.get(KEY, ""), signature_of(file)
    if not key:
        signature.unlink(missing_ok=True)
        return
    done = _ssh_keygen("sign", "-f", key, said=file.read_bytes())
    if done.returncode:
        raise InputError(f"{KEY}: {key}: {_last_line(done)}; name an SSH private key without a passphrase")
    signature.write_bytes(done.stdout)


def signer_of(file: Path, signers: Path) -> str:
    """Returns the principal in an ``allowed_signers`` file whose key signed a file.

    Raises:
        InputError: the file of signers cannot be read.
        RunError: the signature is missing or does not fit, or is by none of them.
    """
    if not signers.is_file() or not os.access(signers, os.R_OK):
        raise InputError(f"--signers: {signers} cannot be read; name an allowed_signers file, see ssh-keygen(1)")
    path = signature_of(file)
    try:
        content, signature = (read_bytes(each, MAX_SMALL_BYTES) for each in (file, path))
    except FileNotFoundError as error:
        raise RunError(f"{error.filename}: is missing, so none of {signers} vouches for the run; restore it") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read: {error}; restore it") from error
    with tempfile.NamedTemporaryFile() as copy:  # ssh-keygen would wait for a pipe in its place
        copy.write(signature)
        copy.flush()
        by = ("-s", copy.name, "-f", str(signers))
        found = _ssh_keygen("find-principals", *by)
        principals = found.stdout.decode(errors="replace").splitlines() if not found.returncode else []
        for each in principals:
            if not _ssh_keygen("verify", *by, "-I", each, said=content).returncode:
                return each
    why = "it does not fit: the seal was changed" if principals else f"is by none of {signers}"
    raise RunError(f"{path}: {why}; ask who ran the lab")


def _ssh_keygen(action: str, *arguments: str, said: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    namespace = () if action == "find-principals" else ("-n", NAMESPACE)
    command = ("ssh-keygen", "-Y", action, *namespace, *arguments)
    # Nobody is there to be asked for a passphrase.
    environment = {**os.environ, "SSH_ASKPASS_REQUIRE": "force", "SSH_ASKPASS": "false"}
    try:
        return subprocess.run(
            command, input=said, capture_output=True, env=environment, timeout=_TIMEOUT_S, check=False
        )
    except FileNotFoundError as error:
        raise InputError("ssh-keygen is not installed; install OpenSSH's client") from error
    except subprocess.TimeoutExpired as error:
        raise InputError(f"ssh-keygen -Y {action} has not ended in {_TIMEOUT_S:g} s; try it by hand") from error


def _last_line(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"ssh-keygen ended with status {done.returncode}"
