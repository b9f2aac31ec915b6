"""From spec to plan: which units stand up, with which command each, and at which addresses they meet.

Here belongs the order of the whole. What a unit of a role is says ``lab.roles``, and how a plan is carried out
``lab.runtime``. A plan is the same for every runtime; only where things are differs, and that a site says.
"""

from lab.plan._plan import Plan, layout_of, plan, roles_of

__all__ = ["Plan", "layout_of", "plan", "roles_of"]
