"""Times in the engine's queue against M/D/c: Poisson arrivals, the same service time for all, c at once.

It runs on a loop whose clock jumps to the next timer, so that 10,000 requests take no time and no timer is late.
"""

from __future__ import annotations

import asyncio
import math
from random import Random
from statistics import fmean, stdev

import pytest

from models.proto.generation.v1 import generation_pb2
from models.tokens.engine import TokenEngine
from models.tokens.settings import TokenSettings

BATCHES, OF_BATCH = 21, 500


class Clock(asyncio.SelectorEventLoop):
    """A loop on which waiting takes no time."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._selector.select = self._skip  # type: ignore[attr-defined]

    def time(self) -> float:
        return self._now

    def _skip(self, timeout: float | None) -> list[object]:
        self._now += timeout or 0.0
        return []


def poisson_tail(mean: float, least: int) -> float:
    """The probability that a Poisson number is at least so much."""
    term = math.exp(least * math.log(mean) - mean - math.lgamma(least + 1))
    total, number = 0.0, least
    while term > 1e-16 or number < mean:
        total, number = total + term, number + 1
        term *= mean / number
    return total


def mean_wait(servers: int, utilisation: float) -> float:
    """Mean wait of M/D/c in service times: Crommelin, P. O. Elec. Eng. J. 25, 1932, as Tijms gives it."""
    load = servers * utilisation
    wait = 0.0
    for k in range(1, 2_000):
        part = poisson_tail(k * load, k * servers) - poisson_tail(k * load, k * servers + 1) / utilisation
        wait += part
        if part < 1e-12:
            break
    return wait


def test_the_closed_form_is_that_of_pollaczek_and_khinchine_for_one_server() -> None:
    assert mean_wait(1, 0.6) == pytest.approx(0.6 / (2 * 0.4), rel=1e-6)


@pytest.mark.parametrize(("servers", "utilisation"), [(1, 0.5), (4, 0.7)])
def test_the_mean_time_in_the_queue_is_that_of_m_d_c(servers: int, utilisation: float) -> None:
    loop = Clock()
    try:
        waits = loop.run_until_complete(_waits(servers, utilisation))
    finally:
        loop.close()

    means = [fmean(waits[start : start + OF_BATCH]) for start in range(OF_BATCH, len(waits), OF_BATCH)]
    error = stdev(means) / math.sqrt(len(means))
    assert error < 0.1 * mean_wait(servers, utilisation)
    assert abs(fmean(means) - mean_wait(servers, utilisation)) < 5 * error


async def _waits(servers: int, utilisation: float) -> list[float]:
    """The waits of all requests in the order of their arrival, in service times."""
    loop = asyncio.get_running_loop()
    engine = TokenEngine(TokenSettings(max_num_seqs=servers, queue_limit=1_000_000))
    draw = Random(11)  # noqa: S311 (not security-relevant)
    waits = [0.0] * (BATCHES * OF_BATCH)

    async def serve(place: int) -> None:
        arrived = loop.time()
        async with engine.run(generation_pb2.GenerateRequest(prompt=[1], max_tokens=1)):
            waits[place] = loop.time() - arrived
            await asyncio.sleep(1.0)

    async with asyncio.TaskGroup() as tasks:
        for place in range(len(waits)):
            await asyncio.sleep(draw.expovariate(servers * utilisation))
            tasks.create_task(serve(place))
    return waits
