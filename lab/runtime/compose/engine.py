"""Access to a Docker engine: its API, and the ``docker compose`` command."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

import docker
import requests
from docker.context import ContextAPI
from docker.errors import APIError, DockerException

from lab.errors import UnitError

if TYPE_CHECKING:
    from docker.models.containers import Container

REMEDY = "start Docker, or run `make engine`; `--runtime process` needs none"

_NOT_SET_UP = "waiting for init preliminary setup"
"""What runc says if a container's first process ended before it could be set up."""
_TIMEOUT_S = 60
_QUIET_S = 20.0


def connect() -> docker.DockerClient:
    """A client of the engine that the ``docker`` command would use, shared by this process.

    Raises:
        UnitError: no engine answers.
    """
    try:
        host = address()
        at_a_socket = _connects(host)
        client = _client_of(host)
        if not at_a_socket:
            client.ping()
    except (DockerException, requests.RequestException, OSError) as error:
        raise UnitError(f"no Docker engine answers ({_root_of(error)}): {REMEDY}") from error
    return client


# Each new client asks the engine for its version, for which the engine starts three programs: ten times a ping's work.
@cache
def _client_of(host: str | None) -> docker.DockerClient:
    client = docker.DockerClient(base_url=host, timeout=_TIMEOUT_S)
    if _socket_of(host):
        client.api.trust_env = False  # saves a search of the environment for proxies at each request
    atexit.register(client.close)
    return client


def address() -> str | None:
    """URL of the engine; None for the default of Docker's library."""
    return os.environ.get("DOCKER_HOST") or ContextAPI.get_current_context().Host


def obstacle() -> str:
    """Why the compose runtime does not work on this machine; empty if it does."""
    try:
        connect()
    except UnitError as error:
        return str(error)
    try:
        subprocess.run(["docker", "compose", "version"], check=True, capture_output=True, timeout=_QUIET_S)
    except (OSError, subprocess.SubprocessError):
        return f"the `docker compose` command is missing: install Docker's compose plugin, or {REMEDY}"
    return ""


def networks(client: docker.DockerClient) -> list[IPv4Network]:
    """The networks that the engine has."""
    return [
        IPv4Network(config["Subnet"])
        for network in client.networks.list()
        for config in network.attrs["IPAM"]["Config"] or ()
        if ":" not in config.get("Subnet", ":")
    ]


@contextmanager
def errors_in_one_line(what: str) -> Iterator[None]:
    """Turns errors of the engine into one line each.

    Args:
        what: begins the line, e.g. ``kill``.

    Raises:
        UnitError: the engine refused, or does not answer.
    """
    try:
        yield
    except APIError as error:
        raise UnitError(f"{what}: {explain(error.explanation or str(error))}") from error
    except requests.RequestException as error:
        raise UnitError(f"{what}: the Docker engine does not answer ({_root_of(error)}): {REMEDY}") from error


def start(container: Container) -> None:
    """Starts a container; once more if its first process has ended before it was set up, which is the engine's own.

    Raises:
        APIError: the engine refused.
    """
    try:
        container.start()
    except APIError as error:
        if _NOT_SET_UP not in (error.explanation or ""):
            raise
        container.start()


def compose(
    arguments: Sequence[str], environment: Mapping[str, str], on_line: Callable[[str], None] = lambda _: None
) -> None:
    """Runs ``docker compose``. Ctrl-C is passed on, and raised here once the command has ended.

    Args:
        arguments: of the command.
        environment: variables beside those of this process.
        on_line: called with each line that the command prints.

    Raises:
        UnitError: the command failed; the reason is in one line.
    """
    lines: list[str] = []
    # In its own session, as a terminal's Ctrl-C would reach it a second time.
    with subprocess.Popen(
        [*_dies_with_parent(), "docker", "compose", *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as command:
        assert command.stdout is not None  # noqa: S101 (it is a pipe)
        try:
            for line in command.stdout:
                lines.append(line.rstrip())
                on_line(lines[-1])
        except BaseException:
            _end(command)
            raise
    if command.returncode:
        reason = explain("\n".join(lines))
        raise UnitError(f"docker compose {_verb(arguments)}: {reason}")


@cache
def _dies_with_parent() -> tuple[str, ...]:
    """Prefix of a command that dies with this process, so that a killed ``lab up`` creates no more containers."""
    return ("setpriv", "--pdeathsig", "KILL", "--") if shutil.which("setpriv") else ()


def _connects(host: str | None) -> bool:
    """Whether the engine is at a Unix socket that accepts connections; False if it is elsewhere.

    OSError if the socket does not accept any. Docker's library would find that out, too, but leaves its socket open.
    """
    path = _socket_of(host)
    if path:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)
    return bool(path)


def is_of_this_kernel(client: docker.DockerClient) -> bool:
    """Returns whether containers run under this process's kernel, not under that of a VM or of another machine."""
    return bool(_socket_of(address())) and client.info()["KernelVersion"] == os.uname().release


def _socket_of(host: str | None) -> str:
    return host.removeprefix("unix://") if host and host.startswith("unix://") else ""


_REASONS = (
    (r"no space left on device", "the disk that Docker keeps its data on is full: make room, see `docker system df`"),
    (
        r"(?:Bind for |listen tcp4? |exposing port TCP )(\S+?:\d+).*(?:already allocated|address already in use)",
        "port {0} is taken: end what listens there, or try again, and another is chosen",
    ),
    (r"(?:Pool overlaps|overlaps with other)", "another Docker network has the lab's addresses: try again"),
    (
        r"(\S+): failed to resolve source metadata|pull access denied for ([^,\s]+)|manifest for (\S+) not found",
        "image {0} is neither here nor can it be pulled: `make engine` makes a base image without a registry",
    ),
    (r"[Nn]o such image: (\S+)", "image {0} is not here: `lab up` builds it"),
)


def explain(text: str) -> str:
    """The reason in the output of the engine or of the compose command, with a remedy where one is known."""
    for pattern, remedy in _REASONS:
        found = re.search(pattern, text)
        if found:
            return remedy.format(*[group for group in found.groups() if group])
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"error|failed|invalid|denied|cannot", line, re.IGNORECASE)]
    return (errors or lines or ["it failed without a message"])[-1]


def _end(command: subprocess.Popen[str]) -> None:
    """Interrupts a command; it gets time to end, as the engine carries out its requests anyway."""
    command.send_signal(signal.SIGINT)
    try:
        command.wait(_QUIET_S)
    except subprocess.TimeoutExpired:
        command.kill()


def _verb(arguments: Sequence[str]) -> str:
    return next((each for each in arguments if each in {"up", "build"}), arguments[-1])


def _root_of(error: BaseException) -> str:
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return str(error)
