"""A profile: another set of checks than those of proxies that route on a header, for what an address may be else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lab.registry import Registry

if TYPE_CHECKING:
    from lab.plugins.conform.check import Result
    from lab.plugins.conform.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileOptions:
    """What the command line says, beside the address.

    Attributes:
        header: name of the routing header.
        checks: names of the checks; all if empty.
        control: name of a control of the profile, or a command; empty for none.
        first_port: port of the first server that the checks start; 0 for the usual one.
        routes_out: file for what the address under test must have, as JSON.
        wait_s: how long that may take, seconds.
        send: headers of each request.
        body: of each request, where the profile does not choose it; empty for the profile's own.
    """

    header: str
    checks: Sequence[str] = ()
    control: str = ""
    first_port: int = 0
    routes_out: Path | None = None
    wait_s: float = 60.0
    send: Mapping[str, str]
    body: bytes = b""


class Run(Protocol):
    """Tries an address, and returns a result for each check."""

    def __call__(
        self,
        target: Target,
        options: ProfileOptions,
        *,
        say: Callable[[str], None],
        on_result: Callable[[Result], None],
    ) -> Awaitable[list[Result]]:
        """See :func:`lab.plugins.conform.run.conform`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A profile: a file that defines such a value adds one.

    Attributes:
        name: by which users ask for it.
        line: what is tried, in a line.
        run: tries it.
    """

    name: str
    line: str
    run: Run


PROFILES = Registry(Profile, group="routing_lab.conformance_profiles", noun="profile")
"""All profiles beside the usual checks: those of distributions, the lab's own among them, and of plugin files."""
