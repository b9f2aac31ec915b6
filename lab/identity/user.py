"""The person at this machine, as audit logs and revisions name them."""

from __future__ import annotations

import os
import pwd

PAGE = "LAB_FROM_PAGE"
"""Environment variable of commands that the console's page runs."""


def user() -> str:
    """The user's name, from the kernel, as environment variables can be set to anything; ``uid 7`` without a name."""
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def author() -> str:
    """The user, and whether they used the console's page."""
    return f"{user()} by the console's page" if os.environ.get(PAGE) else user()
