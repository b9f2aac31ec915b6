"""All roles by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from lab.registry import Registry
from lab.roles._role import Role

if TYPE_CHECKING:
    from lab.roles._unit import Unit

ROLES = Registry(Role, package="lab.roles", group="routing_lab.roles", noun="role")
"""All roles: the lab's, those of other distributions, and those of plugin files."""


def role_of(unit: Unit) -> Role | None:
    """The role of a unit; None if only a bench's lab has it."""
    if unit.role not in ROLES:
        return None
    return ROLES[unit.role]


def followers(what: Literal["rules", "xds"]) -> tuple[str, ...]:
    """Names of all roles that receive this from the control plane; ``xds`` as Envoys do."""
    return tuple(role.name for role in ROLES.values() if getattr(role.follows, what))


def rule_followers() -> tuple[str, ...]:
    """Names of all roles that receive the rules."""
    return followers("rules")
