"""``python -m models.host``: replicas of many stub clusters in one process, behind an Envoy that tags each request."""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from random import uniform
from typing import Any, NoReturn

import grpc.aio

from lab.errors import InputError
from lab.transport import listen, new_server, open_channel, run_service, set_within
from models.host.hosted import Hosted, read_hosted
from models.proto.control.v1 import host_pb2, host_pb2_grpc, replicas_pb2, replicas_pb2_grpc
from models.stub.behaviour import Behaviour, LiveBehaviour, parse_latency
from models.stub.receipts import handlers_of
from models.stub.registration import HEARTBEAT_S, RECONNECT_S
from models.stub.serving import Fraud, Ranking

log = logging.getLogger("models.host")


class HostRegistration:
    """Keeps all replicas of a host registered, over one stream to ``control_plane``, ``host:port``."""

    def __init__(self, control_plane: str, hosted: Hosted) -> None:
        self._control_plane = control_plane
        self._hosted = hosted
        self._changed = asyncio.Event()
        hosted.on_change = self._report_soon

    def _report_soon(self) -> None:
        # The attribute is read on each call: every stream has its own event.
        self._changed.set()

    async def run(self) -> NoReturn:
        """Registers, and reconnects after a loss; runs until cancelled."""
        while True:
            try:
                await self._session()
            except grpc.aio.AioRpcError as error:
                log.info("control plane %s: %s; trying again", self._control_plane, error.code().name)
            await asyncio.sleep(uniform(*RECONNECT_S))  # noqa: S311 (nothing secret)

    async def _session(self) -> None:
        self._changed = asyncio.Event()
        self._hosted.mark_all_changed()
        async with open_channel(self._control_plane, peer="control-plane", keepalive=True) as channel:
            call = replicas_pb2_grpc.ReplicasStub(channel).RegisterHost(self._reports(self._changed))
            try:
                async for assignment in call:
                    self._hosted.assign(assignment)
            finally:
                call.cancel()

    async def _reports(self, changed: asyncio.Event) -> AsyncIterator[replicas_pb2.HostReport]:
        # A change is reported once: an ended stream must not consume it.
        while changed is self._changed:
            changed.clear()
            yield replicas_pb2.HostReport(replicas=self._hosted.take_reports())
            await set_within(changed, HEARTBEAT_S)


class HostControl(host_pb2_grpc.HostServicer):
    """Controls a host's replicas, for scenarios."""

    def __init__(self, hosted: Hosted) -> None:
        self._hosted = hosted

    async def Drain(
        self, request: host_pb2.DrainRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> host_pb2.DrainResponse:
        """Drains replicas, and returns others to service."""
        try:
            self._hosted.drain(request.out, draining=True)
            self._hosted.drain(request.back, draining=False)
        except InputError as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        return host_pb2.DrainResponse()


async def _serve(arguments: argparse.Namespace, stop: asyncio.Event) -> None:
    # Thousands of stubs would log what they load; the host's behaviour is observed from outside.
    logging.getLogger("models.stub").setLevel(logging.WARNING)
    hosted = Hosted(
        read_hosted(arguments.replicas),
        LiveBehaviour(Behaviour(latency=parse_latency(arguments.latency), seed=arguments.seed)),
    )
    server, _ = new_server()
    server.add_generic_rpc_handlers(handlers_of({"ranking.v1": Ranking(hosted), "fraud.v1": Fraud(hosted)}))
    host_pb2_grpc.add_HostServicer_to_server(HostControl(hosted), server)
    listen(server, arguments.listen)
    await server.start()
    log.info("listening on %s", arguments.listen)
    registering = asyncio.create_task(HostRegistration(arguments.control_plane, hosted).run())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((registering, stopping), return_when=asyncio.FIRST_COMPLETED)
    try:
        if registering.done():
            registering.result()
    finally:
        registering.cancel()
        stopping.cancel()
        await server.stop(0.2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m models.host", description=__doc__)
    parser.add_argument("--replicas", required=True, type=Path, help="JSON file: [[cluster, replica, ip:port], …]")
    parser.add_argument("--listen", required=True, help="unix:PATH at which only its Envoy reaches it")
    parser.add_argument("--control-plane", required=True, metavar="IP:PORT", help="where to register")
    parser.add_argument("--latency", default="constant:0", help="ms, as for models.stub (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the random draws (%(default)s)")
    arguments = parser.parse_args()
    run_service(lambda stop: _serve(arguments, stop))
