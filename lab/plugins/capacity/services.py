"""What requests are like: their size as people write it, and how long models take, drawn for many at once."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import numpy as np

from lab.errors import InputError
from models.stub.behaviour import ConstantLatency, Latency, LoadDependentLatency, LognormalLatency

if TYPE_CHECKING:
    from lab.plugins.capacity.queues import Floats

_MS = 1e-3
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KM]?B)?\s*", re.IGNORECASE)


def parse_size(text: str, option: str) -> int:
    """``400``, ``30KB`` or ``4.1 MB``, of 1,000 each, in bytes.

    Raises:
        InputError: it does not have that form; the message names the option.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise InputError(f"{option}: {text!r} is not a size; write bytes, KB or MB, e.g. 30KB")
    return round(float(match[1]) * _UNITS[(match[2] or "").upper()])


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
