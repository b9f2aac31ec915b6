"""What a control plane's metrics say, read from its state during a scrape."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from lab.transport import expose

if TYPE_CHECKING:
    from services.controlplane.publishing.publisher import Publisher


def expose_metrics(publisher: Publisher) -> None:
    """Adds revision, phases, nodes and replicas to the metrics of this process."""
    fleet = publisher.fleet
    kinds = (fleet.sidecars, fleet.routers)

    def nodes() -> Counter[tuple[str, str]]:
        connected = [each for kind in kinds for each in list(kind)]
        counts = Counter({(each.role, state): 0 for each in connected for state in ("current", "behind")})
        counts.update((each.role, "behind" if each.is_behind else "current") for each in connected)
        return counts

    expose("lab_revision", "Revision in force.", lambda: publisher.revision)
    expose(
        "lab_publish_phases_total",
        "Phases that published revisions have reached.",
        lambda: {(phase,): count for phase, count in publisher.phases.copy().items()},
        ("phase",),
    )
    expose(
        "lab_publish_phase_seconds_total",
        "Time from the call until each phase, in total; divide by lab_publish_phases_total.",
        lambda: {(phase,): seconds for phase, seconds in publisher.phase_seconds.copy().items()},
        ("phase",),
    )
    expose("lab_nodes", "Connected nodes; behind are those that refused or did not answer.", nodes, ("role", "state"))
    expose(
        "lab_replicas",
        "Registered model replicas.",
        lambda: Counter((member.cluster,) for member in fleet.membership.members),
        ("model_cluster",),
    )
