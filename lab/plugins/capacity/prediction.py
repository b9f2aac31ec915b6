"""What latency will be under load, predicted from requests that had the models to themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lab.errors import InputError
from lab.plugins.capacity.queues import Cluster, Floats, simulate

LANES = 25
"""Repetitions of each round with other service times: the factor of simulated over measured requests."""


@dataclass(frozen=True, slots=True)
class Alone:
    """Service times measured at low load, where no request waits.

    Attributes:
        latency_s: of requests as callers see them, seconds.
        overhead_s: of what lies between caller and model, its median, seconds: latency of models that take no time.
    """

    latency_s: Floats
    overhead_s: float

    def __post_init__(self) -> None:
        if not len(self.latency_s):
            raise InputError("nothing was measured at low load; measure longer")

    @property
    def service_s(self) -> Floats:
        """How long a slot was taken, for each of the requests, seconds."""
        return np.maximum(self.latency_s - self.overhead_s, 0.0)

    def rate(self, utilisation: float, slots: int) -> float:
        """Requests per second that keep ``slots`` at a utilisation."""
        return utilisation * slots / float(self.service_s.mean())


def predict(alone: Alone, rounds: Sequence[Floats], cluster: Cluster, *, seed: int) -> list[Floats]:
    """Latencies of each round, ms: as many as :data:`LANES` times its requests.

    A request's latency is a service time, drawn from those measured alone, plus its simulated wait.

    Args:
        alone: at low load.
        rounds: when requests arrive, seconds; a round begins with empty queues.
        cluster: the cluster that serves them.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    predicted = []
    for arrivals_s in rounds:
        drawn = random.integers(0, len(alone.latency_s), (len(arrivals_s), LANES))
        outcome = simulate(arrivals_s[:, None], alone.service_s[drawn], cluster, random)
        predicted.append(1e3 * (alone.latency_s[drawn] + outcome.waited_s).ravel())
    return predicted
