"""The stub's command line."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import InputError
from lab.transport.authorization import roles_in
from models.stub.behaviour import Behaviour, parse_latency

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True)
class Options:
    """The settings of a replica at its start.

    Attributes:
        cluster: its cluster, ``ml-cluster-1``.
        replica: its name, ``ml-cluster-1-a``.
        listen: ``ip:port`` to bind; port 0 binds a free one.
        advertise: ``ip:port`` at which callers reach it; port 0 stands for the bound port.
        control_plane: ``ip:port``; several are separated by commas.
        rest: ``ip:port`` that serves REST; empty for none.
        access_log: file that gets one line per request; None for none.
        clients: roles that may send it requests, if peers authenticate.
        behaviour: its initial behaviour.
        drain_s: maximum time from SIGTERM to the end of the process, seconds.
        max_connection_age_s: clients must reconnect after this time, seconds; 0 for never.
    """

    cluster: str
    replica: str
    listen: str
    advertise: str
    control_plane: str
    behaviour: Behaviour
    drain_s: float
    max_connection_age_s: float
    rest: str = ""
    access_log: Path | None = None
    clients: tuple[str, ...] = ()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        """Raises a one-line error instead of printing the usage."""
        raise InputError(f"{self.prog}: {message}")


def _parser() -> argparse.ArgumentParser:
    start = Behaviour()
    parser = _Parser(prog="python -m models.stub", description="One replica of a stub model cluster.")
    add: Callable[..., object] = parser.add_argument
    add("--cluster", required=True, help="cluster that this replica belongs to")
    add("--replica", required=True, help="name of this replica")
    add("--listen", required=True, metavar="IP:PORT", help="address to bind; port 0 takes a free one")
    add("--rest", default="", metavar="IP:PORT", help="address that serves REST; none if left out")
    add(
        "--advertise",
        required=True,
        metavar="IP:PORT",
        help="address at which callers reach it; port 0: the bound port",
    )
    add(
        "--control-plane",
        required=True,
        metavar="IP:PORT",
        help="where to register; several control planes separated by commas",
    )
    add("--latency", default="constant:0", help="ms: constant:2, lognormal:median,sigma or load:ms,knee (%(default)s)")
    add("--error-rate", type=float, default=start.error_rate, help="share of requests that fail, 0 to 1 (%(default)s)")
    add("--warm-up-ms", type=float, default=start.warm_up_ms, help="time to load a model version (%(default)s)")
    add(
        "--concurrency-limit",
        type=int,
        default=start.concurrency_limit,
        help="requests served at once; 0: no limit (%(default)s)",
    )
    limit = start.tenant_concurrency_limit
    add(
        "--tenant-concurrency-limit",
        type=int,
        default=limit,
        help="the same for any one tenant; 0: no limit (%(default)s)",
    )
    add("--seed", type=int, default=start.seed, help="of the random draws (%(default)s)")
    add("--drain-s", type=float, default=5.0, help="maximum time from SIGTERM to the end, s (%(default)s)")
    add(
        "--max-connection-age-s",
        type=float,
        default=0.0,
        help="after this time clients must reconnect; 0: never (%(default)s)",
    )
    add(
        "--clients",
        type=roles_in,
        default=(),
        metavar="ROLE,…",
        help="roles that may send requests, if peers authenticate; only the operator if left out",
    )
    add("--access-log", type=Path, help="file that gets one JSON line per request; none if left out")
    return parser


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    """Parses the command line.

    Raises:
        InputError: an argument is missing, unknown or out of range.
    """
    parsed = _parser().parse_args(arguments)
    named = [(name, address) for name in ("listen", "advertise", "rest") for address in [getattr(parsed, name)]]
    named += [("control_plane", address) for address in parsed.control_plane.split(",")]
    for name, address in named:
        if name == "rest" and not address:
            continue
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise InputError(f"--{name.replace('_', '-')}: {address!r} is not an address; write ip:port")
    for name in ("drain_s", "max_connection_age_s"):
        seconds: float = getattr(parsed, name)
        if not 0 <= seconds < float("inf"):
            raise InputError(f"--{name.replace('_', '-')}: {seconds!r} is out of range: use seconds from 0")
    return Options(
        cluster=parsed.cluster,
        replica=parsed.replica,
        listen=parsed.listen,
        advertise=parsed.advertise,
        control_plane=parsed.control_plane,
        behaviour=Behaviour(
            latency=parse_latency(parsed.latency),
            error_rate=parsed.error_rate,
            warm_up_ms=parsed.warm_up_ms,
            concurrency_limit=parsed.concurrency_limit,
            tenant_concurrency_limit=parsed.tenant_concurrency_limit,
            seed=parsed.seed,
        ),
        drain_s=parsed.drain_s,
        max_connection_age_s=parsed.max_connection_age_s,
        rest=parsed.rest,
        access_log=parsed.access_log,
        clients=parsed.clients,
    )
