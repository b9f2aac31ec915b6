"""The stub's command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import InputError
from lab.transport.authorization import roles_in
from models.stub.behaviour import Behaviour, parse_latency
from models.tokens.settings import DEFAULTS, TokenSettings

_ADDRESSES = {
    "listen": "address to bind; port 0 takes a free one",
    "rest": "address that serves REST; none if left out",
    "advertise": "address at which callers reach it; port 0: the bound port",
    "control_plane": "where to register; several control planes separated by commas",
    "metrics": "address that serves metrics; none if left out",
}
_OPTIONAL = ("rest", "metrics")
_OF_BEHAVIOUR = {
    "error_rate": "share of requests that fail, 0 to 1",
    "warm_up_ms": "time to load a model version",
    "concurrency_limit": "requests served at once; 0: no limit",
    "tenant_concurrency_limit": "the same for any one tenant; 0: no limit",
    "seed": "of the random draws",
}
_SECONDS = {
    "drain_s": (5.0, "maximum time from SIGTERM to the end, s"),
    "max_connection_age_s": (0.0, "after this time clients must reconnect; 0: never"),
}


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
        metrics: ``ip:port`` that serves metrics; empty for none.
        access_log: file that gets one line per request; None for none.
        arrivals: file that keeps what it received, see :mod:`models.stub.journal_file`; None for none.
        clients: roles that may send it requests, if peers authenticate.
        receipt_key: secret of the lab's replicas, see :mod:`models.stub.receipts`; empty for no receipts.
        tokens: of a model that generates tokens.
        report_load: 1 to report its load with each response, see :mod:`models.stub.load_report`; 0 for not.
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
    metrics: str = ""
    access_log: Path | None = None
    arrivals: Path | None = None
    clients: tuple[str, ...] = ()
    receipt_key: str = ""
    tokens: TokenSettings = DEFAULTS
    report_load: int = 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        """Raises a one-line error instead of printing the usage."""
        raise InputError(f"{self.prog}: {message}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m models.stub", description="One replica of a stub model cluster.")
    add: Callable[..., object] = parser.add_argument
    add("--cluster", required=True, help="cluster that this replica belongs to")
    add("--replica", required=True, help="name of this replica")
    for name, text in _ADDRESSES.items():
        optional = {"default": ""} if name in _OPTIONAL else {"required": True}
        add(_option(name), metavar="IP:PORT", help=text, **optional)
    add("--latency", default="constant:0", help="ms: constant:2, lognormal:median,sigma or load:ms,knee (%(default)s)")
    for name, text in _OF_BEHAVIOUR.items():
        default = getattr(Behaviour(), name)
        add(_option(name), type=type(default), default=default, help=f"{text} (%(default)s)")
    for name, (default, text) in _SECONDS.items():
        add(_option(name), type=float, default=default, help=f"{text} (%(default)s)")
    add(
        "--clients",
        type=roles_in,
        default=(),
        metavar="ROLE,…",
        help="roles that may send requests, if peers authenticate; only the operator if left out",
    )
    add("--receipt-key", default="", help="secret of the lab's replicas; with it answers say what was received")
    add("--arrivals", type=Path, help="file that keeps what it received if it is killed; none if left out")
    add("--tokens", default="", metavar="NAME=VALUE,…", help="settings of a model that generates tokens")
    add("--report-load", type=int, choices=(0, 1), default=0, help="1: report its load with responses (%(default)s)")
    add("--access-log", type=Path, help="file that gets one JSON line per request; none if left out")
    return parser


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    """Parses the command line.

    Raises:
        InputError: an argument is missing, unknown or out of range.
    """
    values = vars(_parser().parse_args(arguments))
    for name in _ADDRESSES:
        for address in values[name].split(","):
            host, _, port = address.rpartition(":")
            if (values[name] or name not in _OPTIONAL) and not (host and port.isdecimal()):
                raise InputError(f"{_option(name)}: {address!r} is not an address; write ip:port")
    for name in _SECONDS:
        if not 0 <= values[name] < float("inf"):
            raise InputError(f"{_option(name)}: {values[name]!r} is out of range: use seconds from 0")
    settings = {name: values.pop(name) for name in _OF_BEHAVIOUR}
    try:
        values["tokens"] = TokenSettings.parse(values["tokens"])
    except ValueError as error:
        raise InputError(f"--tokens: {error}") from None
    return Options(behaviour=Behaviour(latency=parse_latency(values.pop("latency")), **settings), **values)
