"""One network for each lab of containers, from the range for benchmarks: 198.18.0.0/15 (RFC 2544).

Company networks and VPNs do not use that range.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from ipaddress import IPv4Network
from pathlib import Path

from lab.errors import UnitError
from lab.runtime import reservations

RANGE = IPv4Network("198.18.0.0/15")
SUBNETS = tuple(RANGE.subnets(new_prefix=22))
"""A thousand addresses each."""

_KIND = "subnets"


def reserve(owner: Path, in_use: Collection[IPv4Network]) -> IPv4Network:
    """Reserves a network for a lab: the one that it has reserved before, else the first that is free.

    Args:
        owner: the folder of the lab; its reservation ends with :func:`release`, or with the folder.
        in_use: networks that the engine has.

    Raises:
        UnitError: no network is free.
    """
    with reservations.locked(_KIND) as reserved:
        own = reserved.get(str(owner))
        if own:
            return SUBNETS[own[0]]
        for number in _free(reserved, in_use):
            reserved[str(owner)] = [number]
            return SUBNETS[number]
    raise UnitError(f"no free network in {RANGE}: take other labs down, see `docker network ls`")


def count_free(in_use: Collection[IPv4Network]) -> int:
    """Number of networks that are free; ``in_use`` as for :func:`reserve`."""
    with reservations.locked(_KIND) as reserved:
        return sum(1 for _ in _free(reserved, in_use))


def release(owner: Path) -> None:
    """Frees the network of a lab."""
    reservations.release(_KIND, owner)


def _free(reserved: Mapping[str, list[int]], in_use: Collection[IPv4Network]) -> Iterator[int]:
    taken = {number for numbers in reserved.values() for number in numbers}
    for number, subnet in enumerate(SUBNETS):
        if number not in taken and not any(subnet.overlaps(other) for other in in_use):
            yield number
