"""A testbed for routing ML inference traffic: gateway against sidecar mesh, with evidence.

Here belongs what an engineer imports and runs. What runs as its own process lives in ``services`` and ``models``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# gRPC reads this when it is imported. By default it writes lines to standard error: one at each fork of a process that
# has calls in flight, and errors where a proxyless client has not read its certificates yet.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

CHECKOUT = Path(__file__).resolve().parent.parent
"""The folder of this checkout, or the one in which the lab's wheel is installed."""

_INSTALLED = Path(__file__).resolve().parent / "files"
FILES = _INSTALLED if _INSTALLED.is_dir() else CHECKOUT
"""The folder of the default spec, its route table and the Envoy templates, which a wheel has within the package."""


PYTHON = (sys.executable, "-P")
"""Command of this Python for what the lab starts: modules in the current folder, which may be anyone's, do not run."""


def home() -> Path:
    """The folder in which labs keep their state and their runs: ``LAB_HOME``, else the checkout.

    Of a lab that was installed from its wheel, it is ``routing-lab`` in the user's home.
    """
    named = os.environ.get("LAB_HOME")
    return Path(named) if named else CHECKOUT if FILES == CHECKOUT else Path.home() / "routing-lab"


def keep_files_private() -> None:
    """Lets only this user read what this process, and those that it starts, will write: files 0600, folders 0700."""
    os.umask(0o077)


def folder_of(lab: str, of: Path | None = None) -> Path:
    """The folder of a lab's state.

    Args:
        lab: its name.
        of: folder of all labs; :func:`home` by default.
    """
    return (of or home()) / ".lab" / lab
