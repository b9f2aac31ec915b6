"""The person at this machine, as audit logs and revisions name them."""

from __future__ import annotations

import os
import pwd

PAGE = "LAB_FROM_PAGE"
"""Environment variable of commands that the console's page runs."""


def _user() -> str:
    # From the kernel, as environment variables can be set to anything.
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def author() -> str:
    """The user's name, ``uid 7`` without one, and whether they used the console's page."""
    return f"{_user()} by the console's page" if os.environ.get(PAGE) else _user()
