"""Latency histograms (HDR): constant memory, three significant digits from a microsecond to an hour.

Source of the method and of the file's form: Gil Tene's HdrHistogram, https://hdrhistogram.github.io/HdrHistogram/. A
percentile is the nearest rank: the smallest recorded value with at least that share of all values at or below it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hdrh.histogram import HdrHistogram

from lab.errors import RunError
from lab.reading import read_bytes

LOWEST_NS = 1_000
HIGHEST_NS = 3_600 * 1_000_000_000
SIGNIFICANT_DIGITS = 3

NS_PER_MS = 1_000_000

_ROUNDING = 1e-9  # 99.9 % of 1000 values are 999 of them, despite binary fractions

_Histogram: Any = HdrHistogram


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Percentiles of a histogram and its greatest value, milliseconds; all 0 if nothing was recorded."""

    count: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float


class LatencyHistogram:
    """Counts durations given in nanoseconds.

    Values below a microsecond count as one; values above an hour count as an hour.
    """

    def __init__(self, values_ns: Iterable[int] = ()) -> None:
        self._hdr = _Histogram(LOWEST_NS, HIGHEST_NS, SIGNIFICANT_DIGITS)
        for value in values_ns:
            self.record(value)

    @property
    def count(self) -> int:
        """Number of values recorded."""
        return int(self._hdr.get_total_count())

    def record(self, value_ns: int) -> None:
        """Counts one duration.

        Raises:
            ValueError: it is negative, so one of the two clocks it comes from is wrong.
        """
        if value_ns < 0:
            raise ValueError(f"a duration of {value_ns} ns: it ends before it begins")
        self._hdr.record_value(min(max(value_ns, LOWEST_NS), HIGHEST_NS))

    def add(self, other: LatencyHistogram) -> None:
        """Adds the counts of another histogram."""
        self._hdr.add(other._hdr)

    def value_at_ms(self, percentile: float) -> float:
        """The value at a percentile of 0 to 100, milliseconds; 0 if nothing was recorded."""
        return self._values_ms(percentile)[0]

    def percentiles(self) -> Percentiles:
        """The percentiles that the lab speaks of everywhere."""
        p50, p90, p99, p999, greatest = self._values_ms(50, 90, 99, 99.9, 100)
        return Percentiles(count=self.count, p50_ms=p50, p90_ms=p90, p99_ms=p99, p999_ms=p999, max_ms=greatest)

    def _values_ms(self, *percentiles: float) -> list[float]:
        """The values at these percentiles, in one pass over the buckets."""
        count = self.count
        if not count:
            return [0.0] * len(percentiles)
        # The library rounds the rank to the nearer one, so that p99 of 140 values would leave out two of them.
        ranks = [max(1, math.ceil(count * each / 100 - _ROUNDING)) for each in percentiles]
        at = [100 * rank / count for rank in ranks]
        found = self._hdr.get_percentile_to_value_dict(at)
        return [float(found[each]) / NS_PER_MS for each in at]

    def encode(self) -> bytes:
        """The compressed V2 form in base64, which every HdrHistogram library reads; its unit is the nanosecond."""
        return bytes(self._hdr.encode())

    @classmethod
    def decode(cls, encoded: bytes) -> LatencyHistogram:
        """The inverse of :meth:`encode`.

        Raises:
            ValueError: it is not a histogram, or one of another range or unit.
        """
        histogram = cls()
        try:
            decoded = _Histogram.decode(encoded)
        except Exception as error:  # the library passes on all errors of base64, zlib and ctypes
            raise ValueError("no HDR histogram") from error
        found = (decoded.lowest_trackable_value, decoded.highest_trackable_value, decoded.significant_figures)
        if found != (LOWEST_NS, HIGHEST_NS, SIGNIFICANT_DIGITS):
            raise ValueError(f"a histogram of other range (lowest, highest, digits: {found})")
        histogram._hdr = decoded
        return histogram

    def write(self, path: Path) -> None:
        """Writes the encoded form and a newline.

        Raises:
            RunError: the file cannot be written.
        """
        try:
            path.write_bytes(self.encode() + b"\n")
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {error.strerror}") from error

    @classmethod
    def read(cls, path: Path) -> LatencyHistogram:
        """Reads what :meth:`write` wrote.

        Raises:
            RunError: no such file, or no histogram of the lab.
        """
        try:
            return cls.decode(read_bytes(path).strip())
        except OSError as error:
            raise RunError(f"{path}: cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise RunError(f"{path}: {error}; name a histogram that the lab wrote") from error
