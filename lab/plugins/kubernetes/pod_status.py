"""Reads the status of a pod: its containers, and why one does not run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.errors import UnitError

if TYPE_CHECKING:
    from lightkube.models.core_v1 import ContainerStatus
    from lightkube.resources.core_v1 import Pod

# Reasons of a container that waits, for which it would wait in vain.
_IN_VAIN = (
    "ImagePullBackOff",
    "ErrImagePull",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
)


def statuses(pod: Pod | None) -> list[ContainerStatus]:
    """The status of each container of a pod; none before the pod is on a node."""
    status = pod.status if pod is not None else None
    if status is None:
        return []
    return [*(status.initContainerStatuses or []), *(status.containerStatuses or [])]


def container(pod: Pod | None, unit: str) -> ContainerStatus | None:
    """The status of one container, if there is one."""
    return next((each for each in statuses(pod) if each.name == unit), None)


def is_running(status: ContainerStatus | None) -> bool:
    """Whether a container runs."""
    return status is not None and status.state is not None and status.state.running is not None


def waits_for(pod: Pod | None, unit: str) -> str:
    """Why a container does not run yet; empty if it does.

    Raises:
        UnitError: it never will.
    """
    status = container(pod, unit)
    if is_running(status):
        return ""
    waiting = status.state.waiting if status is not None and status.state is not None else None
    if waiting is not None and waiting.reason in _IN_VAIN:
        raise UnitError(f"{unit}: {waiting.reason}: {' '.join((waiting.message or '').split())}")
    if waiting is not None:
        return waiting.reason or "waiting"
    conditions = pod.status.conditions if pod is not None and pod.status is not None else None
    for condition in conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            return condition.message or condition.reason or "not scheduled"
    return "no pod yet" if pod is None else "starting"
