"""The zones of a lab, as its nodes see them: which replicas are in their own zone, and where those of others are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Zones:
    """Zones of nodes and replicas. A lab without links has none.

    Attributes:
        nodes: node, or caller that receives xDS by its own library → its zone.
        targets: address of a replica → its zone.
        reached: zone → address of a replica in another zone → that of the link to it.
    """

    nodes: Mapping[str, str] = field(default_factory=dict)
    targets: Mapping[str, str] = field(default_factory=dict)
    reached: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, file: str) -> Self:
        """The zones in a file, as the plan of a lab writes it."""
        document: Mapping[str, Any] = json.loads(Path(file).read_text())
        return cls(**document)

    def zone_of(self, node: str, caller: str = "") -> str:
        """The zone of a node, which may act for a caller; empty if it is in none."""
        return self.nodes.get(node) or self.nodes.get(caller, "")

    def seen_from(self, zone: str, addresses: Iterable[str]) -> list[str]:
        """By which addresses nodes of a zone reach these replicas, in their order."""
        links = self.reached.get(zone, {})
        return [links.get(each, each) for each in addresses]
