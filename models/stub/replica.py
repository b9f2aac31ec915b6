"""One replica: listens, registers, serves, and drains before it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

from grpc_health.v1 import health_pb2

from lab.routing.keys import COPY, COPY_HEADER, HEADER
from lab.transport import RestServer, enable_reflection, expose, guard_of, is_serving, listen, new_server, serve_metrics
from lab.transport.rpc_logs import Audited, LogsRequests, RequestLog
from models.apis import METHODS, InferenceRequest
from models.proto.control.v1 import picks_pb2, picks_pb2_grpc, prefill_pb2, prefill_pb2_grpc, stub_pb2, stub_pb2_grpc
from models.proto.fraud.v1 import fraud_pb2
from models.proto.generation.v1 import generation_pb2
from models.proto.ranking.v1 import ranking_pb2
from models.rest import RESOURCES, Rest
from models.stub.behaviour import LiveBehaviour
from models.stub.connection_churn import Churn
from models.stub.control import StubControl
from models.stub.generation import Generation, Prefill, Signals, TokenJournal, expose_engine
from models.stub.journal import METHODS as ACTS
from models.stub.journal import Journal
from models.stub.journal_file import JournalFile
from models.stub.load_report import ReportsLoad
from models.stub.receipts import Receipts, handlers_of
from models.stub.registration import Registration
from models.stub.serving import Fraud, Ranking, RequestHandler
from models.stub.versions import Identity, Versions
from models.tokens.engine import TokenEngine

if TYPE_CHECKING:
    import grpc.aio

    from models.rest import Handler
    from models.stub.options import Options

log = logging.getLogger(__name__)

# How long the control plane may take to receive the report of draining.
_REPORT_S = 0.5
# After this time without a request, clients have stopped sending.
_QUIET_S = 0.3
# Time for finished responses to reach the wire.
_FLUSH_S = 0.2
_POLL_S = 0.02

# One line a request, shadow copies included; `routing_key` is the header's.
LOG_FIELDS = ("request_id", "use_case", "routing_key", "copy", "status", "ms")
_SERVICES = tuple(
    file.services_by_name[name].full_name
    for file, name in (
        (ranking_pb2.DESCRIPTOR, "Ranking"),
        (fraud_pb2.DESCRIPTOR, "Fraud"),
        (generation_pb2.DESCRIPTOR, "Generation"),
        (picks_pb2.DESCRIPTOR, "Signals"),
        (picks_pb2.DESCRIPTOR, "PickJournal"),
        (prefill_pb2.DESCRIPTOR, "Prefill"),
        (stub_pb2.DESCRIPTOR, "StubControl"),
    )
)

_ADMITTED: Mapping[str, tuple[str, ...]] = {"StubControl": (), "PickJournal": (), "Prefill": ("model",)}
"""Roles besides the operator that may call a service; its clients may call the others."""


class Replica:
    """A replica; it serves after :meth:`start`.

    Attributes:
        address: where callers reach it; known after the start.
        rest_port: the port of REST, 0 if it is not served; likewise.
        handler: counts requests.
    """

    def __init__(self, options: Options) -> None:
        serve_metrics(options.metrics)
        self._options = options
        self._live = LiveBehaviour(options.behaviour)
        self._access_log = RequestLog(options.access_log, LOG_FIELDS)
        journal = Journal()
        admits = {each: _ADMITTED.get(each.rpartition(".")[2], options.clients) for each in _SERVICES}
        interceptors: list[grpc.aio.ServerInterceptor] = [ReportsLoad(METHODS)] if options.report_load else []
        if options.access_log:
            interceptors.append(LogsRequests(self._access_log, METHODS, _described))
        self._server, self._healthy = new_server(
            interceptors=interceptors,
            admits=admits,
            audit=Audited(options.replica, ACTS, journal),
            max_connection_age_s=options.max_connection_age_s,
        )
        host, _, port = options.advertise.rpartition(":")
        bound = listen(self._server, options.listen)
        self.address = f"{host}:{bound}" if port == "0" else options.advertise
        self._churn = Churn(self._live, bound)
        identity = Identity(options.cluster, options.replica, self.address)
        self._versions = Versions(identity, self._live)
        self._registration = Registration(options.control_plane, self._versions, journal)
        self.handler = RequestHandler(self._versions, self._live, options.replica, Receipts(options.receipt_key))
        self._arrivals = JournalFile(options.arrivals, self.handler.journal) if options.arrivals else None
        self._engine = TokenEngine(options.tokens)
        self._expose_metrics()
        expose_engine(self._engine)
        self._ranking, self._fraud = Ranking(self.handler), Fraud(self.handler)
        self._generation = Generation(self.handler, self._engine, options.cluster)
        handlers: dict[str, Handler] = {
            "/ranking.v1.Ranking/Rank": self._ranking.Rank,
            "/fraud.v1.Fraud/Score": self._fraud.Score,
            "/generate.v1.Generation/Generate": self._generation.Generate,
        }
        rest = Rest(
            handlers=lambda method: handlers[method.path],
            find=RESOURCES.get,
            paths=", ".join(f"POST {path}" for path in RESOURCES),
            ready=partial(is_serving, self._healthy),
            guard=guard_of(admits),
        )
        self._rest = RestServer(rest)
        self.rest_port = 0

    def _expose_metrics(self) -> None:
        handler, versions = self.handler, self._versions
        expose("lab_model_versions_loaded", "Model versions that it serves.", lambda: len(versions.loaded))
        expose("lab_model_in_flight", "Requests being served, without copies.", lambda: handler.in_flight)
        expose(
            "lab_model_torn_total", "Requests that named different versions in header and body.", lambda: handler.tears
        )
        expose(
            "lab_model_requests_total",
            "Requests admitted; kind is request, or copy of a shadow.",
            lambda: {
                (model, version, COPY if is_copy else "request"): count
                for (model, version, is_copy), count in handler.admitted.copy().items()
            },
            ("model", "version", "kind"),
        )

    async def start(self) -> None:
        """Starts serving; returns at once."""
        servicers = {"ranking.v1": self._ranking, "fraud.v1": self._fraud, "generate.v1": self._generation}
        self._server.add_generic_rpc_handlers(handlers_of(servicers))
        control = StubControl(self._live, self.handler, self._versions, self._churn)
        stub_pb2_grpc.add_StubControlServicer_to_server(control, self._server)
        picks_pb2_grpc.add_SignalsServicer_to_server(Signals(self._engine, self._options.replica), self._server)
        prefill_pb2_grpc.add_PrefillServicer_to_server(Prefill(self.handler, self._engine), self._server)
        picks_pb2_grpc.add_PickJournalServicer_to_server(TokenJournal(self._engine), self._server)
        enable_reflection(self._server, _SERVICES)
        for service in _SERVICES:
            await self._healthy.set(service, health_pb2.HealthCheckResponse.SERVING)
        if self._options.rest:
            self.rest_port = self._rest.listen(self._options.rest)
        await self._server.start()
        log.info("%s of %s serves at %s", self._options.replica, self._options.cluster, self.address)

    async def run(self, stop: asyncio.Event) -> None:
        """Serves and stays registered until ``stop`` is set; then drains and ends."""
        async with self._access_log.running(), self._arrivals.running() if self._arrivals else nullcontext():
            await self._run(stop)

    async def _run(self, stop: asyncio.Event) -> None:
        await self.start()
        registering = asyncio.create_task(self._registration.run())
        churning = asyncio.create_task(self._churn.run())
        stopping = asyncio.create_task(stop.wait())
        # Registration never ends by itself. If it does, that is a bug, and this process must not pretend to be healthy.
        await asyncio.wait((registering, stopping), return_when=asyncio.FIRST_COMPLETED)
        try:
            if registering.done():
                registering.result()
            await self._drain()
        finally:
            stopping.cancel()
            registering.cancel()
            churning.cancel()
            await asyncio.gather(registering, churning, return_exceptions=True)
            self._versions.close()

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._options.drain_s
        log.info("draining, %d in flight", self.handler.in_flight)
        await self._healthy.enter_graceful_shutdown()
        self._rest.start_draining()
        self._registration.start_draining()
        if self._registration.connected:
            await self._until_nobody_comes(loop.time() + self._options.drain_s / 2)
        await self._finish(until)
        log.info("drained, %d cut off", self.handler.in_flight)

    async def _until_nobody_comes(self, until: float) -> None:
        """Returns once draining was reported and no more requests arrive, or at ``until``."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(min(_REPORT_S, max(until - loop.time(), 0.0))):
                await self._registration.drain_reported.wait()
        except TimeoutError:
            return  # a control plane that does not answer does not remove the replica either
        arrivals = -1
        while self.handler.arrivals != arrivals and (left := until - loop.time()) > 0:
            arrivals = self.handler.arrivals
            await asyncio.sleep(min(_QUIET_S, left))

    async def _finish(self, until: float) -> None:
        """Refuses new requests and returns once those in flight are answered, or at ``until``."""
        loop = asyncio.get_running_loop()
        grace_s = max(until - loop.time(), 0.0)
        closing = asyncio.create_task(self._server.stop(grace_s))
        closing_rest = asyncio.create_task(self._rest.close(grace_s))
        while (self.handler.in_flight or self._engine.running) and not closing.done():  # noqa: ASYNC110 (an event would cost every request)
            await asyncio.sleep(_POLL_S)
        # Only streams that never end by themselves, such as health watches, are left.
        await self._server.stop(_FLUSH_S)
        await asyncio.gather(closing, closing_rest)


def _described(headers: Mapping[str, str], request: InferenceRequest, response: object) -> tuple[object, ...]:
    del response
    envelope = request.envelope
    return (envelope.request_id, envelope.use_case, headers.get(HEADER, ""), headers.get(COPY_HEADER) == COPY)
