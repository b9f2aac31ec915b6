"""The blocking client of the control plane's admin API: publish, roll back, read status, revisions and audit log."""

from lab.admin.client import AdminClient, Tables
from lab.admin.values import (
    Acknowledgement,
    Act,
    ControlPlaneStatus,
    Node,
    PublishProgress,
    Replica,
    RevisionInfo,
    Step,
    Waiting,
)

__all__ = [
    "Acknowledgement",
    "Act",
    "AdminClient",
    "ControlPlaneStatus",
    "Node",
    "PublishProgress",
    "Replica",
    "RevisionInfo",
    "Step",
    "Tables",
    "Waiting",
]
