"""What a unit receives from the control plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Follows:
    """What a unit receives from the control plane, which admits it to nothing else; a role may combine these.

    Attributes:
        rules: the stream of rules.
        endpoints: with it, the replicas of each routing key and the tenants' limits.
        xds: xDS, as an Envoy does: clusters on demand, with load reports in return.
        xds_client: xDS, as a gRPC library does.
    """

    rules: bool = False
    endpoints: bool = False
    xds: bool = False
    xds_client: bool = False

    NOTHING: ClassVar[Follows]
    RULES: ClassVar[Follows]
    RULES_AND_ENDPOINTS: ClassVar[Follows]
    XDS: ClassVar[Follows]
    XDS_CLIENT: ClassVar[Follows]

    def __bool__(self) -> bool:
        return self != Follows.NOTHING


Follows.NOTHING = Follows()
Follows.RULES = Follows(rules=True)
Follows.RULES_AND_ENDPOINTS = Follows(rules=True, endpoints=True)
Follows.XDS = Follows(xds=True)
Follows.XDS_CLIENT = Follows(xds_client=True)
