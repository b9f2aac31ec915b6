"""Saves the registered replicas: after a restart, the control plane uses them until they register again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from services.controlplane.registry.records import StoredReplica
from services.controlplane.registry.revisions import Registry, best_effort

if TYPE_CHECKING:
    from services.controlplane.nodes.membership import Member

# Saving waits for the disk, and the snapshot is only used for a moment after a restart.
_SAVE_EVERY_S = 0.1


class ReplicaSnapshot:
    """Saves replicas as they change: at once after a quiet period; changes in quick succession, together."""

    def __init__(self, registry: Registry, members_of: Callable[[str], Iterable[Member]]) -> None:
        self._registry, self._members_of = registry, members_of
        self._unsaved: set[str] = set()  # clusters that changed since the last save
        self._saving: asyncio.TimerHandle | None = None  # set for a while after each save

    def changed(self, clusters: Collection[str]) -> None:
        """Notes that a replica of each of these clusters came, left, loaded or unloaded something."""
        self._unsaved.update(clusters)
        if self._saving is None:
            self._save()
            self._saving = asyncio.get_running_loop().call_later(_SAVE_EVERY_S, self._saved_a_while_ago)

    def finish(self) -> None:
        """Saves what is not saved yet."""
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
