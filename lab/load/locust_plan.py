"""The part of a load plan for Locust, the interactive load engine."""

from __future__ import annotations

import socket
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

EXAMPLE = Path(__file__).with_name("locustfile.py")
"""The locustfile used if none is named."""

LOOPBACK = "127.0.0.1"

UI_HOST_VARIABLE = "LAB_UI_HOST"
"""Environment variable: the address that Locust's web UI listens on, if it is not 127.0.0.1."""

_MOST_WORKERS = 64
_PORTS = range(1, 65_536)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocustPlan:
    """How Locust drives a run.

    Attributes:
        locustfile: defines the users. In the plan's JSON form, a bare name means a file beside the plan.
        workers: number of worker processes; 0 to run users in the driver itself.
        ui_port: port of Locust's web UI, where people set the number of users; None to follow the plan.
        closed_loop: whether some user class sets its own wait time after an answer. Such a run slows down with the
            system that it measures.
    """

    locustfile: Path
    workers: int = 0
    ui_port: int | None = None
    closed_loop: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.workers <= _MOST_WORKERS:
            raise InputError(f"workers: {self.workers} is out of range: use 0 (the driver alone) to {_MOST_WORKERS}")
        if self.ui_port is not None and self.ui_port not in _PORTS:
            raise InputError(f"ui_port: {self.ui_port} is out of range: use {_PORTS[0]} to {_PORTS[-1]}")

    @property
    def by_hand(self) -> bool:
        """Whether people control it through the web UI."""
        return self.ui_port is not None

    @property
    def in_words(self) -> str:
        """How its users pace requests, e.g. ``closed loop: users wait for answers``."""
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
    """Raises if the UI cannot listen there.

    Raises:
        InputError: the port is taken, or not permitted.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(
                f"--ui-port: {port} is not available ({error.strerror}); end the run that uses it, or choose another"
            ) from error
