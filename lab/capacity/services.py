"""How long models take: the stubs' distributions, drawn for many requests at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lab.errors import InputError
from models.stub.behaviour import ConstantLatency, LoadDependentLatency, LognormalLatency

if TYPE_CHECKING:
    from lab.capacity.queues import Floats
    from models.stub.behaviour import Latency

_MS = 1e-3


def mean_s(latency: Latency) -> float:
    """Service time in the mean, seconds.

    Raises:
        InputError: it depends on the load, which the simulation models itself.
    """
    match latency:
        case ConstantLatency(ms):
            return ms * _MS
        case LognormalLatency(median_ms, sigma):
            return median_ms * math.exp(sigma**2 / 2) * _MS
        case LoadDependentLatency():
            raise InputError(
                "--service: of a service time that depends on the load no queue is simulated; write constant "
                "or lognormal, e.g. lognormal:20,0.4"
            )


def draw_s(latency: Latency, shape: tuple[int, int], random: np.random.Generator) -> Floats:
    """Service times, seconds; see :func:`mean_s`."""
    if isinstance(latency, LognormalLatency):
        return random.lognormal(math.log(latency.median_ms * _MS), latency.sigma, shape)
    return np.full(shape, mean_s(latency))
