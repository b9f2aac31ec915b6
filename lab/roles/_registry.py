"""All roles by name."""

from __future__ import annotations

from lab.registry import Registry
from lab.roles._role import Follows, Role

ROLES = Registry(Role, package="lab.roles", group="routing_lab.roles", noun="role")
"""All roles: the lab's, those of other distributions, and those of plugin files."""


def followers(*what: Follows) -> tuple[str, ...]:
    """Names of all roles that receive one of these from the control plane."""
    return tuple(role.name for role in ROLES.values() if role.follows in what)


def rule_followers() -> tuple[str, ...]:
    """Names of all roles that receive the rules."""
    return followers(Follows.RULES, Follows.RULES_AND_ENDPOINTS)
