"""A real API server of Kubernetes, of the tests' own: ``kube-apiserver`` and ``etcd``, without controllers and nodes.

Its programs are looked for as controller-runtime's envtest does: in the folder that :data:`ASSETS` names, else on the
path. Nothing runs pods, and no controller makes them: a workload is admitted and stored, and that is all.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from lab.waiting import eventually
from tests.ports import free_port

ASSETS = "KUBEBUILDER_ASSETS"
"""Environment variable: folder of the programs. Without it these tests are not collected, as no package that ``make``
could install has an API server."""
_WITHIN = timedelta(seconds=120)


def program(name: str) -> str:
    """The path of ``kube-apiserver``, ``etcd`` or ``kubectl``."""
    found = shutil.which(name, path=os.environ[ASSETS]) or shutil.which(name)
    assert found, f"{name} is neither in the folder that {ASSETS} names nor on the path"
    return found


@contextmanager
def api_server(folder: Path) -> Iterator[Path]:
    """The kubeconfig of its administrator.

    Args:
        folder: for its keys, data and logs.
    """
    etcd, server = program("etcd"), program("kube-apiserver")
    database, peers, port, token = free_port(), free_port(), free_port(), secrets.token_hex(16)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    accounts, tokens, certificates = folder / "accounts.pem", folder / "tokens.csv", folder / "certificates"
    accounts.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    tokens.write_text(f"{token},admin,admin,system:masters\n")
    kubeconfig = folder / "kubeconfig"
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(certificates / "apiserver.crt")}
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "tests",
                "clusters": [{"name": "tests", "cluster": cluster}],
                "users": [{"name": "admin", "user": {"token": token}}],
                "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "admin"}}],
            }
        )
    )
    with ExitStack() as running:
        for argv in (
            [
                *(etcd, f"--data-dir={folder / 'etcd'}", "--unsafe-no-fsync"),
                *(f"--listen-client-urls=http://127.0.0.1:{database}", f"--listen-peer-urls=http://127.0.0.1:{peers}"),
                f"--advertise-client-urls=http://127.0.0.1:{database}",
            ],
            [
                *(server, f"--etcd-servers=http://127.0.0.1:{database}", f"--secure-port={port}"),
                *("--bind-address=127.0.0.1", f"--cert-dir={certificates}", f"--token-auth-file={tokens}"),
                *("--authorization-mode=RBAC", "--endpoint-reconciler-type=none"),
                *("--service-cluster-ip-range=10.0.0.0/24", "--service-account-issuer=https://tests.invalid"),
                *(f"--service-account-key-file={accounts}", f"--service-account-signing-key-file={accounts}"),
            ],
        ):
            running.enter_context(_process(argv, folder / f"{Path(argv[0]).name}.log"))
        eventually(
            "the API server is ready",
            lambda: kubectl(kubeconfig, "get", "--raw=/readyz"),
            within=_WITHIN,
            until="ok".__eq__,
        )
        yield kubeconfig


@contextmanager
def _process(argv: list[str], log: Path) -> Iterator[None]:
    with log.open("wb") as file, subprocess.Popen(argv, stdout=file, stderr=file) as process:
        try:
            yield
        finally:
            process.kill()


def kubectl(kubeconfig: Path, *arguments: str, given: str = "") -> str:
    """What ``kubectl`` prints, also its warnings and errors."""
    argv = [program("kubectl"), "--kubeconfig", str(kubeconfig), *arguments]
    done = subprocess.run(argv, input=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout
