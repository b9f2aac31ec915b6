"""Follows the rules, and configures a proxy; a change counts as applied once the proxy answers by it."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lab.errors import UnitError
from lab.identity import host_name
from lab.identity.folder import CERTIFICATE
from lab.pickers import DEFAULT_PICKER, PICKERS
from lab.routing.keys import HEADER, routing_key
from lab.transport import Security, open_channel
from services.renderer.proxy import Configuration, Proxy, Upstream

if TYPE_CHECKING:
    from services.rules import RuleSet

PROBE = "renderer-probe"
"""Model name of the routing keys that lead to the renderer itself."""
# Less than the control plane waits for an acknowledgement, so that its error has the reason.
_WITHIN_S = 4.5
_START_WITHIN_S = 30.0
_PROBE_TIMEOUT_S = 1.0
_PROBE_PAUSE_S = 0.005
_ROTATION_INTERVAL_S = 1.0

_log = logging.getLogger(__name__)


class Renderer:
    """Renders rule sets for one proxy.

    Each configuration has its own routing key that leads back to this process. The proxy follows a configuration
    once a request with that key comes through: on its own connection, by mTLS on both sides. A new certificate
    counts as followed once the proxy presents it.

    Args:
        proxy: a proxy that has not been started.
        listen: ``ip:port`` for the proxy.
        node: this unit's identity, ``role/name``.
        probe: ``ip:port`` of this process's server, of which only the health service is needed.
        within_s: time for a change, seconds.
        picker: name of the lab's picker.
    """

    def __init__(
        self,
        proxy: Proxy,
        *,
        listen: str,
        node: str,
        probe: str,
        within_s: float = _WITHIN_S,
        picker: str = DEFAULT_PICKER,
    ) -> None:
        self._proxy, self._listen, self._node = proxy, listen, node
        self._picks = PICKERS[picker].places.get(node.partition("/")[0])
        self._probe, self._within_s = Upstream((probe,), host_name(node)), within_s
        self._security = Security.of_this_process()
        self._shown: tuple[Mapping[str, Upstream], Path | None] | None = None
        self._wanted: Mapping[str, Upstream] = {}
        self._generation = 0
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Starts the proxy, without any model's routing key, and returns once it answers."""
        await self._show(started=False)

    async def put_in_force(self, rules: RuleSet) -> None:
        """Configures the proxy, and returns once it answers by the new configuration.

        Raises:
            UnitError: it refuses, or does not follow in time.
        """
        async with self._turn:
            before, self._wanted = self._wanted, _upstreams(rules)
            try:
                await self._show()
            except BaseException:
                self._wanted = before
                raise

    async def follow_certificates(self) -> None:
        """Configures the proxy whenever this process's certificate has been replaced, until cancelled."""
        while True:
            await asyncio.sleep(_ROTATION_INTERVAL_S)
            try:
                async with self._turn:
                    await self._show()
            except UnitError as error:
                _log.warning("the proxy keeps its certificate for now: %s", error)

    async def _show(self, *, started: bool = True) -> None:
        identity = Path(self._security.folder) / self._security.version() if self._security.is_mtls else None
        wanted = self._wanted, identity
        if wanted == self._shown:
            return
        shown, self._shown = self._shown, None  # until it is known what the proxy follows
        if shown is None or shown[0] != self._wanted:
            self._generation += 1
        new_identity = identity if shown is None or shown[1] != identity else None
        key = routing_key(PROBE, f"v{self._generation}")
        configuration = Configuration(
            self._node, self._listen, {**self._wanted, key: self._probe}, self._probe, identity, self._picks
        )
        last = ""
        try:
            async with asyncio.timeout(self._within_s if started else _START_WITHIN_S):
                await (self._proxy.configure if started else self._proxy.start)(configuration)
                while last := await self._failure(key, new_identity):  # noqa: ASYNC110 (it signals nothing)
                    await asyncio.sleep(_PROBE_PAUSE_S)
        except TimeoutError:
            raise UnitError(f"the proxy keeps its configuration: {last or self._proxy.last_line}") from None
        self._shown = wanted

    async def _failure(self, key: str, new_identity: Path | None) -> str:
        channel = open_channel(self._listen, peer=self._node, own_connection=True)
        try:
            check = health_pb2_grpc.HealthStub(channel).Check
            await check(health_pb2.HealthCheckRequest(), metadata=((HEADER, key),), timeout=_PROBE_TIMEOUT_S)
            if new_identity is not None and not await asyncio.to_thread(_presents, self._listen, new_identity):
                return "it presents another certificate"
        except grpc.aio.AioRpcError as error:
            return error.details() or error.code().name
        finally:
            await channel.close()
        return ""


def _presents(address: str, identity: Path) -> bool:
    host, _, port = address.rpartition(":")
    try:
        presented = ssl.get_server_certificate((host, int(port)), timeout=_PROBE_TIMEOUT_S)
    except OSError:
        return False
    return presented.split() == (identity / CERTIFICATE).read_text().split()


def _upstreams(rules: RuleSet) -> dict[str, Upstream]:
    def peer(key: str) -> str:
        cluster = rules.clusters.get(key, ("", ""))[0]
        return host_name(f"model/{cluster}" if cluster else "model")

    keys = sorted(rules.clusters.keys() | rules.endpoints.keys())
    return {key: Upstream(tuple(sorted(rules.endpoints.get(key, ()))), peer(key)) for key in keys}
