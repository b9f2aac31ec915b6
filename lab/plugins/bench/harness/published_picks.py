"""What others published about pickers, results that contradict each other included: which cells they speak of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ANY = (0.0, float("inf"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One published comparison of two pickers.

    Attributes:
        source: a blog with its date, or an issue as ``owner/repository#number``.
        says: what it measured, in its own figures.
        picker: the lab's picker that is nearest to the one it is about.
        against: the lab's picker nearest to what it was compared with.
        figure: of the bench, that is nearest to what it measured.
        side: whether ``picker`` is better or worse than ``against``, or the same.
        shares: shares of prompts that are shared, from and to, where the lab comes near to what was measured.
        loads: offered loads, per cent, likewise.
        turns: turns of a conversation, likewise.
    """

    source: str
    says: str
    picker: str
    against: str
    figure: str
    side: Literal["better", "worse", "same"]
    shares: tuple[float, float] = ANY
    loads: tuple[float, float] = ANY
    turns: tuple[float, float] = ANY

    def speaks_of(self, share: float, load: float, turns: int) -> bool:
        """Whether a cell comes near to what was measured."""
        pairs = ((share, self.shares), (load, self.loads), (turns, self.turns))
        return all(low <= value <= high for value, (low, high) in pairs)


_SHARED, _MOSTLY_SHARED, _UNSHARED = (0.5, 1.0), (0.9, 1.0), (0.0, 0.1)
_BUSY, _PAST_THE_KNEE = (90.0, 1_000.0), (110.0, 1_000.0)

PUBLISHED = (
    Published(
        source="llm-d blog 2025-09-24",
        says="precise prefix 0.54 s, load only 94.9 s, TTFT p90",
        picker="prefix-exact",
        against="queue-depth",
        figure="ttft_p99_ms",
        side="better",
        shares=_SHARED,
        loads=_BUSY,
    ),
    Published(
        source="llm-d blog 2025-09-24",
        says="precise prefix 0.54 s, approximate prefix 31.1 s, TTFT p90",
        picker="prefix-exact",
        against="prefix",
        figure="ttft_p99_ms",
        side="better",
        shares=_SHARED,
        loads=_BUSY,
    ),
    Published(
        source="llm-d blog 2025-09-24",
        says="approximate prefix 31.1 s, load only 94.9 s, TTFT p90",
        picker="prefix",
        against="queue-depth",
        figure="ttft_p99_ms",
        side="better",
        shares=_SHARED,
        loads=_BUSY,
    ),
    Published(
        source="llm-d blog 2025-09-24",
        says="precise prefix 0.54 s, random 92.6 s, TTFT p90",
        picker="prefix-exact",
        against="random",
        figure="ttft_p99_ms",
        side="better",
        shares=_SHARED,
        loads=_BUSY,
    ),
    Published(
        source="sgl-project/sglang#2114",
        says="cache-aware routing has twice the throughput",
        picker="prefix",
        against="round-robin",
        figure="goodput_rps",
        side="better",
        shares=_SHARED,
        loads=_BUSY,
    ),
    Published(
        source="llm-d blog 2026-08-17",
        says="affinity with a valve 46k tokens/s, blend of scores 16k; each cell run once",
        picker="prefix-affinity",
        against="weighted",
        figure="goodput_rps",
        side="better",
        shares=_SHARED,
        loads=_BUSY,
    ),
    Published(
        source="llm-d blog 2026-08-17",
        says="the blend keeps the lower TTFT p90 past the knee",
        picker="prefix-affinity",
        against="weighted",
        figure="ttft_p99_ms",
        side="worse",
        loads=_PAST_THE_KNEE,
    ),
    Published(
        source="llm-d blog 2025-09-03",
        says="prefix alone answers 55 %, prefix with load 100 %",
        picker="prefix",
        against="prefix-affinity",
        figure="goodput_rps",
        side="worse",
        shares=_SHARED,
        loads=_PAST_THE_KNEE,
    ),
    Published(
        source="llm-d blog 2025-09-03",
        says="no difference where little is shared",
        picker="prefix",
        against="queue-depth",
        figure="ttft_p50_ms",
        side="same",
        shares=_UNSHARED,
        turns=(1, 1),
    ),
    Published(
        source="sgl-project/sglang#21199",
        says="cache-aware 1,617 ms, round-robin 627 ms, TTFT; 2 workers, one prefix, 36 in flight",
        picker="prefix",
        against="round-robin",
        figure="ttft_p50_ms",
        side="worse",
        shares=_MOSTLY_SHARED,
        loads=_BUSY,
    ),
    Published(
        source="PrimeIntellect-ai/prime-rl#3255",
        says="consistent hashing pinned: generation about 4 times slower, hits from 98 to 5 %",
        picker="ring-hash",
        against="round-robin",
        figure="total_p50_ms",
        side="worse",
        loads=_BUSY,
    ),
    Published(
        source="NVIDIA/aicr#1399",
        says="routing by KV cache takes TTFT p99 from 0.7 s to 4-77 s",
        picker="prefix",
        against="round-robin",
        figure="ttft_p99_ms",
        side="worse",
        loads=_BUSY,
    ),
    Published(
        source="inference-sim/inference-sim#447",
        says="the default blend has a TTFT p99 5 % better than round-robin",
        picker="weighted",
        against="round-robin",
        figure="ttft_p99_ms",
        side="better",
    ),
)
"""All of them. What could not be read for both sides of a comparison is left out."""
