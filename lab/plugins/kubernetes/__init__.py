"""The lab on Kubernetes: each caller with its resolver and its Envoy a pod, and every other unit its own pod.

Here belongs everything that knows Kubernetes; ``lab.roles`` decides which units there are.
"""

from __future__ import annotations

from pathlib import Path

from lab.errors import InputError
from lab.plugins.kubernetes.options import OPTIONS_FILE, configure
from lab.runtime._runtime import Runtime, RuntimeKind, RuntimeOption


def _make(folder: Path, security: str) -> Runtime:
    try:
        from lab.plugins.kubernetes.runtime import KubernetesRuntime  # noqa: PLC0415 (its client is an extra)
    except ModuleNotFoundError as error:
        raise InputError(f"--runtime kubernetes: {error.name} is not installed: make .venv/with-kubernetes") from None
    return KubernetesRuntime(folder, security)


RUNTIME = RuntimeKind(
    name="kubernetes",
    title="units are pods of a cluster",
    reason="as asked for",
    priority=-1,
    # A kubeconfig may name anybody's cluster.
    obstacle=lambda: "a cluster is used only when it is asked for",
    make=_make,
    left_in=lambda folder: (folder / OPTIONS_FILE).exists(),
    options=(
        RuntimeOption(name="image", help="Image of the units, by tag or digest"),
        RuntimeOption(name="context", help="Context of the kubeconfig; its current one by default"),
        RuntimeOption(name="namespace", help="Namespace; lab-NAME by default"),
        RuntimeOption(name="storage_class", help="StorageClass of the control plane's volume"),
    ),
    configure=configure,
)
"""Carries out a plan as pods of a Kubernetes cluster."""
