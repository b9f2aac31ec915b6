"""Serves ``generate.v1``: tokens that cost what the model's engine says; and that engine's load and journal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import grpc.aio

from lab.transport import expose
from models.proto.control.v1 import picks_pb2, picks_pb2_grpc, prefill_pb2, prefill_pb2_grpc
from models.proto.generation.v1 import generation_pb2, generation_pb2_grpc
from models.proto.serving.v1 import serving_pb2
from models.scoring import scores
from models.stub.admission import Refused
from models.stub.prefill import Prefillers, prefiller_in
from models.stub.serving import add_evidence
from models.tokens.engine import NOT, PREFILL, FullError
from models.tokens.journal_parts import parts_of

if TYPE_CHECKING:
    from models.stub.serving import Admitted, Received, RequestHandler
    from models.tokens.engine import Running, TokenEngine

    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

MOST_TOKENS, MOST_LORA = 4_096, 128


class Generation(generation_pb2_grpc.GenerationServicer):
    """Serves ``generate.v1``: time is the engine's, and the stub's own service time comes on top."""

    def __init__(self, handler: RequestHandler, engine: TokenEngine, cluster: str = "") -> None:
        self._handler, self._engine, self._prefillers = handler, engine, Prefillers(cluster)

    async def Generate(
        self, request: generation_pb2.GenerateRequest, context: Context
    ) -> generation_pb2.GenerateResponse:
        """All tokens at once."""
        received = self._handler.receive(request, context)
        try:
            with self._handler.ending(received):
                admitted = self._handler.admit(request, received, context)
                async with self._running(request, received, admitted, context) as running:
                    response = generation_pb2.GenerateResponse(answered_by=admitted.loaded.answered_by)
                    add_evidence(response.answered_by, request, admitted.receipt)
                    response.usage.CopyFrom(_usage(request, running))
                    async for token in self._tokens(request, admitted, running):
                        response.tokens.append(token)
                    return response
        except Refused as refused:
            await context.abort(refused.code, refused.message)

    async def GenerateStream(
        self, request: generation_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[generation_pb2.GenerateStreamResponse]:
        """One message a token, as each is ready."""
        received = self._handler.receive(request, context)
        try:
            with self._handler.ending(received):
                admitted = self._handler.admit(request, received, context)
                answered_by = serving_pb2.AnsweredBy()
                answered_by.CopyFrom(admitted.loaded.answered_by)
                add_evidence(answered_by, request, admitted.receipt)
                async with self._running(request, received, admitted, context) as running:
                    usage: generation_pb2.Usage | None = _usage(request, running)
                    async for token in self._tokens(request, admitted, running):
                        yield generation_pb2.GenerateStreamResponse(answered_by=answered_by, token=token, usage=usage)
                        usage = None
        except Refused as refused:
            await context.abort(refused.code, refused.message)

    @asynccontextmanager
    async def _running(
        self, request: generation_pb2.GenerateRequest, received: Received, admitted: Admitted, context: Context
    ) -> AsyncIterator[Running]:
        """Holds a place of the stub, has the prompt prefilled where a header says, then holds a place of the engine.

        Raises:
            Refused: RESOURCE_EXHAUSTED: the engine's queue is full; INVALID_ARGUMENT: it cannot serve this.
        """
        key = admitted.loaded.routing_key
        try:
            _require_servable(request, key)
            at = prefiller_in(context) if self._engine.settings.prefill_replicas else ""
            async with self._handler.slot(admitted):
                prefilled = await self._prefillers.ask(at, request, context.time_remaining()) if at else NOT
                async with self._engine.run(request, prefilled=prefilled) as running:
                    self._handler.maybe_fail(admitted)
                    if received.is_copy:
                        self._handler.keep_answer(received, _answer(request, admitted, running.lora))
                    yield running
        except FullError as full:
            replica = admitted.loaded.answered_by.replica
            reason = f"{key}: replica {replica} {full}; try again later"
            raise Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, reason) from None
        finally:
            admitted.queue.leave(admitted.tenant)

    async def _tokens(
        self, request: generation_pb2.GenerateRequest, admitted: Admitted, running: Running
    ) -> AsyncIterator[generation_pb2.Token]:
        """Yields each token when it is due, so that the delays of single sleeps do not add up."""
        engine, settings = self._engine, self._engine.settings
        due = time.monotonic() + admitted.service_s()
        tokens = len(request.prompt)
        first_s = settings.first_token_s(tokens - running.cached, engine.running)
        due += settings.transfer_s(tokens) if running.is_prefilled else first_s
        for token_id, score in _answer(request, admitted, running.lora):
            if (left := due - time.monotonic()) > 0:
                await asyncio.sleep(left)
            yield generation_pb2.Token(id=token_id, score=score)
            due += settings.next_token_s(engine.running)


def _require_servable(request: generation_pb2.GenerateRequest, key: str) -> None:
    if not request.prompt or not 0 < request.max_tokens <= MOST_TOKENS:
        reason = f"{key}: needs a prompt, and max_tokens from 1 to {MOST_TOKENS}"
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, reason)
    if len(request.lora) > MOST_LORA:
        reason = f"{key}: lora has {len(request.lora)} characters; at most {MOST_LORA} are allowed"
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, reason)


def _answer(request: generation_pb2.GenerateRequest, admitted: Admitted, lora: str) -> list[tuple[str, float]]:
    """Id and score of each token, by the weights of the version and of the adapter."""
    loaded, ids = admitted.loaded, [f"g{number:02}" for number in range(request.max_tokens)]
    version = f"{loaded.version}+{lora}" if lora else loaded.version
    return list(zip(ids, scores(loaded.model, version, request.envelope.context.user_id, ids), strict=True))


def _usage(request: generation_pb2.GenerateRequest, running: Running) -> generation_pb2.Usage:
    return generation_pb2.Usage(
        prompt_tokens=len(request.prompt), cached_tokens=running.cached, queue_ms=running.queued_ms
    )


class Prefill(prefill_pb2_grpc.PrefillServicer):
    """Serves ``control.v1.Prefill``."""

    def __init__(self, handler: RequestHandler, engine: TokenEngine) -> None:
        self._handler, self._engine = handler, engine

    async def Run(self, request: generation_pb2.GenerateRequest, context: Context) -> prefill_pb2.PrefillResponse:
        """Computes the prompt's blocks, in a place of the engine as any request."""
        engine, key = self._engine, request.envelope.model_config.model
        try:
            self._handler.require_loaded(request)
            _require_servable(request, key)
            async with engine.run(request, PREFILL) as running:
                new = len(request.prompt) - running.cached
                await asyncio.sleep(engine.settings.first_token_s(new, engine.running))
                return prefill_pb2.PrefillResponse(cached_tokens=running.cached)
        except Refused as refused:
            await context.abort(refused.code, refused.message)
        except FullError as full:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{key}: {full}")


class Signals(picks_pb2_grpc.SignalsServicer):
    """Serves ``control.v1.Signals``."""

    def __init__(self, engine: TokenEngine, replica: str = "") -> None:
        self._engine, its, scale = engine, engine.settings, engine.settings.time_scale
        self._prefills = its.only_prefills(replica)
        self._speed = picks_pb2.Speed(
            overhead_ms=its.overhead_ms * scale,
            prefill_ms=its.prefill_ms * scale,
            itl_ms=its.itl_ms * scale,
            load_factor=its.load_factor,
            max_num_seqs=its.max_num_seqs,
        )

    async def GetLoad(self, request: picks_pb2.GetLoadRequest, context: Context) -> picks_pb2.GetLoadResponse:
        """The engine's load now."""
        del request, context
        engine = self._engine
        return picks_pb2.GetLoadResponse(
            waiting=engine.waiting,
            running=engine.running,
            kv_used=engine.cache.used,
            loras=engine.adapters.loaded,
            waiting_loras=engine.adapters.waiting,
            max_loras=engine.adapters.capacity,
            speed=self._speed,
            prefills=self._prefills,
        )

    async def FollowKvEvents(
        self, request: picks_pb2.FollowKvEventsRequest, context: Context
    ) -> AsyncIterator[picks_pb2.KvEventBatch]:
        """What its KV cache stores and removes."""
        del context
        began_ns = self._engine.journal_began_ns
        wanted = request.sequence if request.began_ns == began_ns else 0
        async for sequence, payload in self._engine.kv_events.follow(wanted):
            yield picks_pb2.KvEventBatch(sequence=sequence, payload=payload, began_ns=began_ns)


class TokenJournal(picks_pb2_grpc.PickJournalServicer):
    """Serves a replica's ``control.v1.PickJournal``: of blocks and queue."""

    def __init__(self, engine: TokenEngine) -> None:
        self._engine = engine

    async def Read(
        self, request: picks_pb2.ReadPicksRequest, context: Context
    ) -> AsyncIterator[picks_pb2.ReadPicksResponse]:
        """The lines, several a message."""
        del request, context
        its = self._engine
        for part in parts_of(list(its.journal()), its.dropped, its.journal_began_ns):
            yield part


def expose_engine(engine: TokenEngine) -> None:
    """Serves the engine's load as metrics, under the names that vLLM gives them (vllm/v1/metrics/loggers.py)."""
    for name, text, read in (
        ("vllm:num_requests_waiting", "Requests in the queue.", lambda: engine.waiting),
        ("vllm:num_requests_running", "Requests being served.", lambda: engine.running),
        ("vllm:kv_cache_usage_perc", "Share of the KV cache in use, 0 to 1.", lambda: engine.cache.used),
        ("vllm:prefix_cache_queries_total", "Prompt tokens looked up.", lambda: engine.queries),
        ("vllm:prefix_cache_hits_total", "Prompt tokens found in the cache.", lambda: engine.hits),
    ):
        expose(name, text, read)
    expose(
        "vllm:lora_requests_info",
        "Adapters of requests that run and that wait, with commas; the value is the time.",
        lambda: {_adapters(engine): time.time()},  # noqa: TID251 (Prometheus has dates)
        ("max_lora", "running_lora_adapters", "waiting_lora_adapters"),
    )


def _adapters(engine: TokenEngine) -> tuple[str, ...]:
    its = engine.adapters
    return str(its.capacity), ",".join(its.running), ",".join(its.waiting)
