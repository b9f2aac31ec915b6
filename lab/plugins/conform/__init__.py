"""Which features of a routing proxy an address has: models and callers around it, and one check for each feature.

Here belong the checks (:mod:`lab.plugins.conform.kinds`, one file each), the models and callers that they use, and
reports of the results. How the lab's own topologies are judged does not: see :mod:`lab.checkers`.
"""

from lab.plugins.conform.check import Check, Finding, Result, Verdict, failed, passed, unknown
from lab.plugins.conform.control import CONTROLS, Control
from lab.plugins.conform.forms import ByEnvelope, ByHeader
from lab.plugins.conform.kinds import CHECKS
from lab.plugins.conform.run import Options, conform
from lab.plugins.conform.stage import Answer, Stage
from lab.plugins.conform.table import Backend, Route
from lab.plugins.conform.target import Target

__all__ = [
    "CHECKS",
    "CONTROLS",
    "Answer",
    "Backend",
    "ByEnvelope",
    "ByHeader",
    "Check",
    "Control",
    "Finding",
    "Options",
    "Result",
    "Route",
    "Stage",
    "Target",
    "Verdict",
    "conform",
    "failed",
    "passed",
    "unknown",
]
