"""What a replica is picked for: a request at the gateway, or at an endpoint picker."""

from __future__ import annotations

from lab.pickers import Asked

NOBODY = Asked("", (), 0, "", "", "")
"""In place of what is not a request, such as a shadow copy."""


class PickedFor:
    """What a replica is picked for, as the attempts that follow need it.

    Attributes:
        asked: the request as pickers see it; None until one has to.
        prefiller: replica that prefills the attempt that was picked for last, ``ip:port``; empty for the picked one.
        served: replica that served it in place of the picked one, as a proxy says; empty for the picked one.
    """

    __slots__ = ("asked", "prefiller", "served")

    def __init__(self, asked: Asked | None = None) -> None:
        self.asked, self.prefiller, self.served = asked, "", ""

    def read(self) -> Asked:
        """The request as pickers see it."""
        return self.asked or NOBODY
