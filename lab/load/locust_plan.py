"""What a plan says of Locust, the engine that people steer."""

from __future__ import annotations

import socket
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

EXAMPLE = Path(__file__).with_name("locustfile.py")
"""The locustfile that is taken if none is named."""

LOOPBACK = "127.0.0.1"

UI_HOST_VARIABLE = "LAB_UI_HOST"
"""Environment variable: the address that Locust's web UI listens on, where that is not this machine's loopback."""

_MOST_WORKERS = 64
_PORTS = range(1, 65_536)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocustPlan:
    """How Locust drives a run.

    Attributes:
        locustfile: says what users do. In a plan's JSON form, a name without a folder means a file beside it.
        workers: processes that users live in; 0 for the driver's own.
        ui_port: port of Locust's web UI, on which people say how many users there are; None if nobody does, and the
            run goes by the plan.
        closed_loop: whether users of the locustfile decide themselves how long they wait after an answer. What such a
            run measures slows down with what it drives.
    """

    locustfile: Path
    workers: int = 0
    ui_port: int | None = None
    closed_loop: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.workers <= _MOST_WORKERS:
            raise InputError(f"workers: {self.workers} will not do; write 0 (the driver alone) to {_MOST_WORKERS}")
        if self.ui_port is not None and self.ui_port not in _PORTS:
            raise InputError(f"ui_port: {self.ui_port} will not do; write {_PORTS[0]} to {_PORTS[-1]}")

    @property
    def by_hand(self) -> bool:
        """Whether people steer it while it runs."""
        return self.ui_port is not None

    @property
    def in_words(self) -> str:
        """When its users send, e.g. ``closed loop: users wait for answers``."""
        by_hand = "steered by hand" if self.by_hand else ""
        closed = "closed loop: users wait for answers" if self.closed_loop else ""
        return ", ".join(part for part in (by_hand, closed) if part) or "as planned"

    def to_document(self) -> dict[str, Any]:
        """As a JSON object."""
        return {**asdict(self), "locustfile": str(self.locustfile)}

    @classmethod
    def from_document(cls, document: Mapping[str, Any] | None, beside: Path) -> LocustPlan | None:
        """The inverse of :meth:`to_document`; ``beside`` is the folder of the plan."""
        if document is None:
            return None
        found = cls(**document)
        return replace(found, locustfile=beside / found.locustfile)


def check_free(host: str, port: int) -> None:
    """Raises unless the UI can listen there.

    Raises:
        InputError: somebody else does, or this process may not.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(
                f"--ui-port: {port} cannot be had ({error.strerror}); end the run whose UI is there, or choose another"
            ) from error
