"""A bench: what a new connection for every request costs, compared with a connection that is reused."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from lab.measure.compare import interleave, median_ratio
from lab.plugins.bench.harness.bench import Bench, Option
from lab.plugins.bench.harness.prebuilt_request import METHOD, check_answer, request
from lab.plugins.bench.harness.result import BenchResult, Claim
from lab.plugins.bench.harness.trials import Trials
from lab.plugins.bench.harness.variant import CLUSTER
from lab.transport import open_blocking_channel

if TYPE_CHECKING:
    import grpc

    from lab.plugins.bench.harness.environment import Environment

REUSED, NEW = "reused", "new"
SIZES = {"400B": 400, "27KB": 27_000}
REQUESTS = 20


def run(environment: Environment, rounds: int, *, payloads: Sequence[str] = ("400B",)) -> BenchResult:
    """Sends the same requests over both kinds of connection, in a random order in every round."""
    address = environment.replicas(CLUSTER)[0]
    cases = [(kind, size) for size in payloads for kind in (REUSED, NEW)]
    trials = Trials(environment, interleave(cases, rounds))
    for trial in trials:
        kind, size = trial.cell
        with trial:
            trial.keep(ms=_milliseconds(address, request(SIZES[size]), reused=kind == REUSED))
    samples = {f"{kind}, {size}": trials.samples[(kind, size), "ms"] for kind, size in cases}
    claims = []
    for size in payloads:
        ratio = median_ratio(samples[f"{NEW}, {size}"], samples[f"{REUSED}, {size}"])
        claims.append(Claim(text=f"new / reused connection, {size}", figure=ratio, at_least=1.0))
    notes = [f"n = {rounds} rounds × {REQUESTS} requests to one replica, one at a time"]
    return BenchResult(unit="ms a request", samples=samples, claims=claims, notes=notes)


def _milliseconds(address: str, message: bytes, *, reused: bool) -> float:
    with ExitStack() as stack:
        shared = stack.enter_context(open_blocking_channel(address)) if reused else None
        began = time.perf_counter()
        for _ in range(REQUESTS):
            with ExitStack() as once:
                channel = shared or once.enter_context(open_blocking_channel(address))
                rpc: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD.path)
                check_answer(address, rpc(message, timeout=10))
        return 1e3 * (time.perf_counter() - began) / REQUESTS


PAYLOADS = Option(name="payloads", help="Sizes of a request.", choices=lambda: SIZES)
BENCH = Bench(
    name="new-connection", question="What does a new connection for every request cost?", run=run, options=(PAYLOADS,)
)
