"""The one place where channels and servers get their credentials."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.errors import SpecError

if TYPE_CHECKING:
    import grpc

ENVIRONMENT_VARIABLE = "LAB_SECURITY"


@dataclass(frozen=True, slots=True)
class Security:
    """How the two ends of a connection know each other.

    Attributes:
        mode: ``plaintext``: no identity; a peer is believed to be who it says.
    """

    mode: str = "plaintext"

    def __post_init__(self) -> None:
        if self.mode != "plaintext":
            raise SpecError(f"security: {self.mode!r} is not known; write 'plaintext'")

    @classmethod
    def of_this_process(cls) -> Security:
        """What the runtime that started this process has set in its environment."""
        return cls(os.environ.get(ENVIRONMENT_VARIABLE, "plaintext"))

    def channel_credentials(self) -> grpc.ChannelCredentials | None:
        """What a client shows and demands; None means plaintext."""
        return None

    def server_credentials(self) -> grpc.ServerCredentials | None:
        """What a server shows and demands; None means plaintext."""
        return None
