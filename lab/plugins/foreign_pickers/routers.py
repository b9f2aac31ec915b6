"""The routers: their commands, and where `make .venv/with-foreign-pickers` installs them."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CARRIED = ("generate.v1",)
"""The APIs that they carry."""

NEUTRAL = "-neutral"
"""What ends the name of a router that only picks: it repeats nothing, and refuses nothing by itself."""


@dataclass(frozen=True, slots=True)
class Router:
    """One router.

    Attributes:
        name: of its program, and of its role.
        version: that is pinned.
        command: words after the program.
        ready: path at which it answers 200 once it has workers.
        neutral: options that switch off what it does besides picking.
    """

    name: str
    version: str
    command: tuple[str, ...]
    ready: str
    neutral: tuple[str, ...]

    @property
    def program(self) -> Path:
        """Where its program is, in an environment apart from the lab's, as it pins other packages."""
        return Path(sys.prefix) / "routers" / self.name / "bin" / self.name

    def installed(self) -> bool:
        """Whether it is there."""
        return self.program.is_file()

    @property
    def remedy(self) -> str:
        """What to do if it is not there."""
        return f"run `make .venv/with-foreign-pickers` ({self.name} {self.version})"

    def argv(
        self, policy: str, host: str, ports: tuple[int, int], workers: Sequence[str], *, neutral: bool
    ) -> tuple[str, ...]:
        """Its command; ``host``: of the loopback; ``ports``: for requests and for metrics; ``workers``: their URLs."""
        return (
            *(str(self.program), *self.command, "--host", host, "--port", str(ports[0])),
            *("--prometheus-host", host, "--prometheus-port", str(ports[1])),
            *("--policy", policy, "--worker-urls", *workers),
            *(self.neutral if neutral else ()),
        )


_PICKS_ONLY = ("--disable-retries", "--disable-circuit-breaker")
ROUTERS = {
    each.name: each
    for each in (
        Router("vllm-router", "0.1.17", (), "/health", _PICKS_ONLY),
        Router("smg", "1.13.0", ("launch",), "/readiness", (*_PICKS_ONLY, "--disable-worker-overload-protection")),
    )
}


def free_ports() -> tuple[str, tuple[int, int]]:
    """An address of the loopback, and two of its ports, for a program that cannot choose them itself.

    On Linux the address is this process's alone: until the program listens, which takes seconds, nobody else takes
    the ports there.
    """
    high, low = divmod(os.getpid(), 256)
    host = f"127.{1 + high // 256}.{high % 256}.{low}" if sys.platform == "linux" else "127.0.0.1"
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind((host, 0))
        return host, (first.getsockname()[1], second.getsockname()[1])
