"""The registered replicas, saved: a restarted control plane believes them until they have registered again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from services.controlplane.registry.revisions import best_effort
from services.controlplane.registry.store import StoredReplica

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from services.controlplane.nodes.membership import Member
    from services.controlplane.registry.revisions import Registry

# Who is registered is written down no more often: what the file says is believed for a moment only, and each time waits
# for the disk.
_SAVE_EVERY_S = 0.1


class ReplicaSnapshot:
    """Writes replicas down as they come and go: at once after a while without a change; of many in a row, together.

    Args:
        registry: where to.
        members_of: who is registered of a cluster now.
    """

    def __init__(self, registry: Registry, members_of: Callable[[str], Iterable[Member]]) -> None:
        self._registry, self._members_of = registry, members_of
        self._unsaved: set[str] = set()  # clusters whose replicas are to be remembered
        self._saving: asyncio.TimerHandle | None = None  # set for a while after they were

    def changed(self, clusters: Collection[str]) -> None:
        """A replica of each of these has come, gone, loaded or unloaded something."""
        self._unsaved.update(clusters)
        if self._saving is None:
            self._save()
            self._saving = asyncio.get_running_loop().call_later(_SAVE_EVERY_S, self._saved_a_while_ago)

    def finish(self) -> None:
        """Writes down what has not been yet."""
        if self._saving is not None:
            self._saving.cancel()
        self._save()

    def _saved_a_while_ago(self) -> None:
        self._saving = None
        if self._unsaved:
            self.changed(())

    def _save(self) -> None:
        clusters, self._unsaved = self._unsaved, set()
        if not clusters:
            return
        with best_effort():
            self._registry.save_replicas(
                [
                    StoredReplica(each.cluster, each.replica, each.address, tuple(sorted(each.loaded)))
                    for cluster in clusters
                    for each in self._members_of(cluster)
                ],
                clusters,
            )
