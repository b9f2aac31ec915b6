from pathlib import Path

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.errors import RunError
from lab.measure.latency import HIGHEST_NS, LOWEST_NS, LatencyHistogram, Percentiles

durations = st.integers(LOWEST_NS, HIGHEST_NS)


def nearest_rank_ms(values: list[int], percent: int) -> float:
    rank = max(1, -(-len(values) * percent // 100))
    return sorted(values)[rank - 1] / 1e6


@settings(deadline=None)
@given(values=st.lists(durations, min_size=1, max_size=300))
def test_percentiles_hold_three_digits_of_the_nearest_rank(values: list[int]) -> None:
    seen = LatencyHistogram(values).percentiles()

    assert len(values) == seen.count
    for percent, seen_ms in ((50, seen.p50_ms), (90, seen.p90_ms), (99, seen.p99_ms), (100, seen.max_ms)):
        # Three digits, and half a microsecond at the lower end.
        assert pytest.approx(nearest_rank_ms(values, percent), rel=1e-3, abs=0.6e-3) == seen_ms


@settings(deadline=None)
@given(values=st.lists(durations, max_size=50))
def test_the_encoded_form_gives_back_the_same_percentiles(values: list[int]) -> None:
    histogram = LatencyHistogram(values)

    assert histogram.percentiles() == LatencyHistogram.decode(histogram.encode()).percentiles()


def test_an_empty_histogram_says_zero() -> None:
    nothing = Percentiles(count=0, p50_ms=0, p90_ms=0, p99_ms=0, p999_ms=0, max_ms=0)

    assert LatencyHistogram().percentiles() == nothing


def test_values_out_of_range_count_at_its_ends() -> None:
    seen = LatencyHistogram([0, 1, 2 * HIGHEST_NS]).percentiles()

    assert (seen.count, seen.p50_ms < 0.002) == (3, True)
    assert seen.max_ms == pytest.approx(HIGHEST_NS / 1e6, rel=1e-3)


def test_a_negative_duration_is_refused() -> None:
    with pytest.raises(ValueError, match="ends before it begins"):
        LatencyHistogram([-1])


def test_two_histograms_add_up() -> None:
    one, other = LatencyHistogram([1_000_000] * 3), LatencyHistogram([9_000_000])

    one.add(other)

    assert LatencyHistogram([1_000_000] * 3 + [9_000_000]).percentiles() == one.percentiles()


def test_a_file_gives_back_the_same_percentiles(tmp_path: Path) -> None:
    histogram = LatencyHistogram([420_000, 730_000, 24_800_000])

    histogram.write(tmp_path / "latency.hdr")

    assert histogram.percentiles() == LatencyHistogram.read(tmp_path / "latency.hdr").percentiles()


@pytest.mark.parametrize("content", [None, b"", b"noise", b"HISTFAAAAEp4nJNp", b"\x00\xff" * 40])
def test_an_invalid_histogram_file_is_a_run_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "latency.hdr"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(RunError) as caught:
        LatencyHistogram.read(path)

    assert str(path) in str(caught.value)


def test_a_histogram_of_another_range_is_refused() -> None:
    with pytest.raises(ValueError, match="other range"):
        LatencyHistogram.decode(HdrHistogram(1, 1_000_000, 2).encode())
