"""The version of the lab, which figures depend on."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib import metadata

from lab import CHECKOUT

_TIMEOUT_S = 5.0


@cache
def lab_version() -> str:
    """Returns the version, with the commit of a checkout: ``1.0.0 (1a2b3c4d5e6f, changed)``."""
    version = metadata.version("inference-routing-lab")
    try:
        done = subprocess.run(
            ["git", "-C", CHECKOUT, "describe", "--always", "--dirty=, changed", "--exclude=*", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
            timeout=_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError):
        return version  # installed, or in an image
    return f"{version} ({done.stdout.strip()})"
