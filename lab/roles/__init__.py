"""The roles of units, one file each: the rest of the lab derives from a frozen :class:`Role`.

Here belongs how a unit of a role is started, found, probed, logged and accounted for, and the plan of all units of a
lab, which ``lab.runtime`` carries out. To add a role, add a file here,
name its module by an entry point of the group ``routing_lab.roles``, or give the file to ``--plugin``.
"""

from lab.roles._follows import Follows
from lab.roles._observed import with_environment
from lab.roles._plan import LOAD, Plan, layout_of, plan, roles_of
from lab.roles._probe import Probe, StartingLab
from lab.roles._registry import ROLES, followers, role_of, rule_followers
from lab.roles._rendered import rendered
from lab.roles._role import Layout, Placement, Program, Role, Setting, python
from lab.roles._unit import ACCESS_LOG, ARRIVALS, CALLER, COLLECTOR, CONTROL_PLANE, MODEL, UNIX, Port, Site, Unit

__all__ = [
    "ACCESS_LOG",
    "ARRIVALS",
    "CALLER",
    "COLLECTOR",
    "CONTROL_PLANE",
    "LOAD",
    "MODEL",
    "ROLES",
    "UNIX",
    "Follows",
    "Layout",
    "Placement",
    "Plan",
    "Port",
    "Probe",
    "Program",
    "Role",
    "Setting",
    "Site",
    "StartingLab",
    "Unit",
    "followers",
    "layout_of",
    "plan",
    "python",
    "rendered",
    "role_of",
    "roles_of",
    "rule_followers",
    "with_environment",
]
