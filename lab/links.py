"""Links between zones: the section ``[links]`` of a lab's spec."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from collections.abc import Iterable

ROLE = "link"
"""Role of the relays that stand for links."""

_Zone = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{0,15}$")]
_Pair = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{0,15} [a-z][a-z0-9]{0,15}$")]
_Member = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
_MOST_ZONES = 16


class LinkSpec(BaseModel):
    """What a link does to bytes in one direction.

    Attributes:
        delay_ms: from the arrival of a byte to its departure, milliseconds.
        jitter_ms: each piece of a connection waits for up to this much longer, evenly drawn.
        mbit_s: bandwidth, megabits per second, of all connections to one target together; 0 for no limit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    delay_ms: float = Field(default=0.0, ge=0, le=10_000)
    jitter_ms: float = Field(default=0.0, ge=0, le=10_000)
    mbit_s: float = Field(default=0.0, ge=0, le=1_000_000)


class LinksSpec(LinkSpec):
    """The links of a lab. Its own delay, jitter and bandwidth are those between any two zones.

    Attributes:
        zones: zone → what is in it: callers, clusters, units between them such as ``gateway-1``, single replicas such
            as ``ml-cluster-1-a``, or all units of a role, such as ``caller``, ``gateway`` or ``model``.
        one_way: ``FROM TO`` → the link from a zone to another, where it differs.
    """

    zones: dict[_Zone, list[_Member]] = Field(min_length=2, max_length=_MOST_ZONES)
    one_way: dict[_Pair, LinkSpec] = {}

    @model_validator(mode="after")
    def _each_is_in_one_zone(self) -> Self:
        found: dict[str, str] = {}
        for zone, members in self.zones.items():
            for member in members:
                if member in found:
                    raise ValueError(f"{member} is in the zones {found[member]} and {zone}; name it once")
                found[member] = zone
        for pair in self.one_way:
            first, second = pair.split()
            if first == second or not {first, second} <= self.zones.keys():
                raise ValueError(f"one_way.{pair!r}: write two of the zones: {', '.join(self.zones)}")
        return self

    @property
    def members(self) -> set[str]:
        """All that a zone names."""
        return {*chain.from_iterable(self.zones.values())}

    def zone_of(self, names: Iterable[str]) -> str:
        """The zone of the first of these names that is in one; empty if none is."""
        found = {member: zone for zone, members in self.zones.items() for member in members}
        return next((found[name] for name in names if name in found), "")

    def link(self, here: str, there: str) -> LinkSpec:
        """The link from one zone to another."""
        given = self.one_way.get(f"{here} {there}")
        return given or LinkSpec(delay_ms=self.delay_ms, jitter_ms=self.jitter_ms, mbit_s=self.mbit_s)


def target_of(link: str) -> str:
    """Name of the unit to which a link leads; names of zones have no dash."""
    return link.partition("-to-")[2]


def link_name(zone: str, target: str) -> str:
    """Name of the link by which units of a zone reach a target in another one."""
    return f"{zone}-to-{target}"
