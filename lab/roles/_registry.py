"""All roles by name."""

from __future__ import annotations

from lab.registry import Registry
from lab.roles._role import Role

ROLES = Registry(Role, package="lab.roles", group="routing_lab.roles", noun="role")
"""Every role that there is: the lab's, other distributions', and those of plugin files."""
