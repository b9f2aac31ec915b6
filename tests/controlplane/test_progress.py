"""How far a node has come by its answers."""

from __future__ import annotations

from services.controlplane.nodes.subscribers import Subscriber
from services.controlplane.xds.progress import Progress
from services.controlplane.xds.resources import CLUSTER

ONE, OTHER = (CLUSTER, "cw-ranker.v1"), (CLUSTER, "rows.v1")


def test_a_refused_resource_is_missing_until_another_version_of_it_is_acknowledged() -> None:
    node = Subscriber("homepage-sidecar", "sidecar")
    progress = Progress(node, built=4)

    refused = progress.carries(5, (ONE,))
    progress.update(5)
    progress.answered(refused, "no such filter")
    assert (node.applied, node.refused, node.error) == (4, 5, "no such filter")

    progress.answered(progress.carries(6, (OTHER,)), None)
    progress.update(6)
    assert node.applied == 4

    again = progress.carries(7, (ONE,))
    progress.update(7)
    progress.answered(again, None)
    assert (node.applied, node.error) == (7, "")


def test_a_refused_resource_that_the_node_gives_up_is_not_missing() -> None:
    node = Subscriber("homepage-sidecar", "sidecar")
    progress = Progress(node, built=4)
    progress.answered(progress.carries(5, (ONE,)), "no")

    progress.gives_up(ONE)
    progress.update(6)

    assert node.applied == 6
