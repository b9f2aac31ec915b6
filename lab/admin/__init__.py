"""The operator's side of the control plane: publish, roll back, look; for code without an event loop."""

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
