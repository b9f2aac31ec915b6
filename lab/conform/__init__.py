"""Which features of a routing proxy an address has: models and callers around it, and one check for each feature.

Here belong the checks (:mod:`lab.conform.kinds`, one file each), the models and callers that they use, and reports of
the results. How the lab's own topologies are judged does not: see :mod:`lab.checkers`.
"""

from lab.conform.check import Check, Finding, Result, Verdict, failed, passed, unknown
from lab.conform.control import CONTROLS, Control
from lab.conform.forms import ByEnvelope, ByHeader
from lab.conform.kinds import CHECKS
from lab.conform.run import Options, conform
from lab.conform.stage import Answer, Stage
from lab.conform.table import Backend, Route
from lab.conform.target import Target

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
