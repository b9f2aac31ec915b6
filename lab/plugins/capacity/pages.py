"""How long a page of many calls takes, predicted from single calls at the same rate and in the same bursts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lab.errors import InputError

if TYPE_CHECKING:
    from lab.plugins.capacity.queues import Floats

PAGES = 4_000
"""Predicted pages of each round."""


@dataclass(frozen=True, slots=True)
class Singles:
    """Single requests of one round, ms.

    Attributes:
        bursts_ms: latencies of inference calls, a row for each burst that was sent at once, as large as a page.
        ways_ms: from a sender to a caller and back, without what the caller does.
    """

    bursts_ms: Floats
    ways_ms: Floats

    def __post_init__(self) -> None:
        if not self.bursts_ms.size or not self.ways_ms.size:
            raise InputError("no single call was measured; measure longer")


def predict_pages(singles: Singles, *, hops: int, seed: int, pages: int = PAGES) -> Floats:
    """Latencies of pages, ms: the slowest call of a burst, and a way for each hop.

    Bursts are drawn whole, as calls that are sent at once share what slows them; ways are drawn independently.

    Args:
        singles: measured.
        hops: services in a row, the page's own included.
        seed: of the draws.
        pages: how many.
    """
    random = np.random.default_rng(seed)
    slowest = random.choice(singles.bursts_ms.max(axis=1), pages)
    return np.asarray(slowest + random.choice(singles.ways_ms, (pages, hops)).sum(axis=1))
