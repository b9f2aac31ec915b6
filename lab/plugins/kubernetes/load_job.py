"""The drivers of one run as an indexed Job; pure functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lab.plugins.kubernetes.naming import DRIVER, Manifest, Pod, Setting, labels, manifest, selector
from lab.plugins.kubernetes.pods import driver_container, driver_volumes, pod_defaults
from lab.plugins.kubernetes.policies import driver_policies
from lab.roles import CALLER

JOB_NAME = "batch.kubernetes.io/job-name"
"""Label of a Job's pods, set by the cluster."""
INDEX = "batch.kubernetes.io/job-completion-index"
"""Annotation of an indexed Job's pods: which of its parts a pod has."""
INDEX_VARIABLE = "JOB_COMPLETION_INDEX"
"""The same as a variable of the pod's containers."""


def load_job(name: str, count: int, caller: str, pods: list[Pod], setting: Setting) -> list[Manifest]:
    """The objects of a run's drivers, in the order in which they are to be applied.

    Args:
        name: of the Job.
        count: number of drivers.
        caller: in whose name they send.
        pods: of the lab.
        setting: of the lab.
    """
    [of_caller] = [pod for pod in pods if pod.name == caller]
    return [*driver_policies(name, of_caller, pods, setting), *_job(name, count, of_caller, setting)]


def _job(name: str, count: int, caller: Pod, setting: Setting) -> Iterator[Manifest]:
    container = driver_container(caller.main, setting)
    # By a quarter of a processor each, so that one node does not get more drivers than can send on time.
    container["resources"]["requests"] = {"cpu": "250m", "memory": "128Mi"}
    spec: dict[str, Any] = {
        **pod_defaults(setting, CALLER),
        "restartPolicy": "Never",
        # With one process namespace, the container's program is not an init process, which ignores signals.
        "shareProcessNamespace": True,
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector(setting, component=DRIVER)},
            }
        ],
        "containers": [container],
        "volumes": driver_volumes(caller.main, setting),
    }
    yield manifest(
        "Job",
        name,
        setting,
        DRIVER,
        spec={
            "completionMode": "Indexed",
            "completions": count,
            "parallelism": count,
            # A lost driver is not replaced. The Job's own `backoffLimit` would delete all others with it, and what they
            # have recorded.
            "backoffLimitPerIndex": 0,
            "template": {"metadata": {"labels": labels(setting, DRIVER)}, "spec": spec},
        },
    )
