"""Metrics of load: counts of all runs of a process, from the progress of their drivers."""

from __future__ import annotations

from urllib.request import urlopen

from lab.load.progress import LATENCY_BOUNDS_S, ProgressLines
from lab.runs.load_metrics import LoadMetrics, counting
from tests.ports import free_port

MS = 1_000_000


def values(metrics: LoadMetrics) -> dict[tuple[str, ...], float]:
    """Name of a sample, and values of its labels but the caller → its value."""
    samples = [sample for family in metrics.collect() for sample in family.samples]
    return {
        (each.name, *(value for label, value in sorted(each.labels.items()) if label != "caller")): each.value
        for each in samples
    }


def run(metrics: LoadMetrics, *recent_ms: list[float]) -> None:
    """A run of one request a millisecond, which reports these latencies; one more request fails, another is left."""
    take, lines, done = metrics.of_run("mesh", "homepage"), ProgressLines(), 0
    for latencies in recent_ms:
        done += len(latencies)
        counts = {"sent": done + 2, "done": done + 1, "ok": done}
        recent_ns = [round(each * MS) for each in latencies]
        take(lines.take(elapsed_ns=done * MS, remaining_ns=0, recent_ns=recent_ns, **counts))


def test_counts_grow_from_run_to_run() -> None:
    metrics = LoadMetrics()

    run(metrics, [1, 2, 3], [4])
    run(metrics, [20_000])

    seen = values(metrics)
    assert seen["lab_load_requests_total", "ok", "mesh"] == 5
    assert seen["lab_load_requests_total", "failed", "mesh"] == 2
    assert seen["lab_load_sent_total", "mesh"] == 9
    assert seen["lab_load_in_flight", "mesh"] == 1
    assert seen["lab_load_latency_seconds_count", "mesh"] == 5
    assert round(seen["lab_load_latency_seconds_sum", "mesh"], 6) == 20.01


def test_a_latency_counts_up_to_its_bound_and_above_the_last_in_infinity() -> None:
    metrics = LoadMetrics()

    run(metrics, [0.5, 0.6, 2, 10_000, 10_001])

    buckets = {key[1]: value for key, value in values(metrics).items() if key[0].endswith("_bucket")}
    assert list(buckets) == [*map(str, LATENCY_BOUNDS_S), "+Inf"]
    assert [buckets[each] for each in ("0.0005", "0.001", "0.0015", "0.002", "5.0", "10.0", "+Inf")] == [
        *(1, 2, 2, 3, 3, 4, 5)
    ]


def test_a_second_load_of_a_lab_goes_on_without_metrics() -> None:
    address = f"127.0.0.1:{free_port()}"

    with counting(address) as first, counting(address):
        first("direct", "search")
        with urlopen(f"http://{address}/metrics", timeout=10) as answer:
            assert b'lab_load_sent_total{caller="search",topology="direct"} 0.0' in answer.read()


def test_load_through_another_lab_is_not_counted() -> None:
    one, other = (f"127.0.0.1:{free_port()}" for _ in range(2))

    with counting(one) as first, counting(other) as second:
        first("direct", "search")
        second("mesh", "homepage")
        with urlopen(f"http://{other}/metrics", timeout=10) as answer:
            text = answer.read()
    assert b'topology="mesh"' in text
    assert b'topology="direct"' not in text


def test_without_an_address_nothing_is_served() -> None:
    with counting("") as of_run:
        run_of = of_run("mesh", "homepage")

    assert callable(run_of)
