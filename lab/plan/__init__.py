"""From spec to plan: which units there are, with their commands, files and addresses.

``lab.roles`` lays out the units of each role, and ``lab.runtime`` carries out the plan. A plan is the same for every
runtime, except for the addresses and paths that the runtime's site assigns.
"""

from lab.plan._plan import Plan, layout_of, plan, roles_of

__all__ = ["Plan", "layout_of", "plan", "roles_of"]
