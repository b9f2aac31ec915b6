"""Requests to labs that are up."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.client.admin_values import ControlPlaneStatus
    from lab.client.call import CallOutcome
    from lab.lab import Lab


def call_mesh(lab: Lab) -> CallOutcome:
    """One request of homepage's through the mesh."""
    return lab.call("ContinueWatchingRanking", topology="mesh", caller="homepage", context={"user_id": "u1"})


def known(lab: Lab) -> ControlPlaneStatus:
    """What the control plane, which must answer, knows."""
    status = lab.control_plane_status()
    assert status is not None
    return status
