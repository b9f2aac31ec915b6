"""Small files of each format, and what they show; broken ones are refused in a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lab.errors import InputError
from lab.plugins.audit_bench.audit import Audit, Delay, Load, p99_ms
from lab.plugins.audit_bench.formats import FORMATS
from lab.plugins.audit_bench.reading import audited
from tests.lab_command import json_of, run_lab

BEGAN = 1_790_000_000.0
# A hundred requests, one each 100 ms; each takes 50 ms, and from the 90th on each waits 10 ms longer than the last.
WAITS = [max(0, number - 89) * 0.01 for number in range(100)]
P99_WAIT_MS, P99_MS = 1e3 * WAITS[98], 1e3 * (WAITS[98] + 0.05)


def guidellm(kind: str, *, timed: bool = True, p99: float | None = 0.05) -> dict[str, Any]:
    requests = []
    for number, wait in enumerate(WAITS):
        due = BEGAN + number / 10
        timings = {"targeted_start": due, "request_start": due + wait, "request_end": due + wait + 0.05}
        requests.append({"request_id": str(number), "info": {"timings": timings if timed else {}}})
    latency = {} if p99 is None else {"request_latency": {"successful": {"percentiles": {"p99": p99}}}}
    return {
        "benchmarks": [
            {
                "config": {"strategy": {"type_": kind, "rate": 10.0}},
                "metrics": latency,
                "requests": {"successful": requests, "incomplete": [], "errored": [{"info": {}}]},
            }
        ]
    }


def inference_perf(**load: Any) -> dict[str, Any]:
    latency = {"request_latency": {"p99": 0.05, "mean": 0.05}}
    return {
        "load_summary": {"count": 101, "schedule_delay": {"p99": 0.09}, **load},
        "successes": {"count": 100, "latency": latency},
        "failures": {"count": 1},
    }


def inference_perf_requests(*, scheduled: bool) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"start_time": 1.0, "end_time": 99.0, "error": {"error_type": "timeout"}}]
    for number, wait in enumerate(WAITS):
        due = number / 10
        times = {"start_time": due + wait, "end_time": due + wait + 0.05, "error": None}
        found.append({**times, "scheduled_time": due} if scheduled else times)
    return found


def aiperf(*, issued: bool = True) -> list[dict[str, Any]]:
    lines = []
    for number, wait in enumerate([5.0, *WAITS]):  # the first one is of the warm-up
        due = round((BEGAN + number / 10) * 1e9)
        sent = due + round(wait * 1e9)
        times = {"request_start_ns": sent, "request_end_ns": sent + 50_000_000}
        metadata = {"benchmark_phase": "profiling" if number else "warmup", **times}
        if issued:
            metadata["credit_issued_ns"] = due
        lines.append({"metadata": metadata, "metrics": {"request_latency": {"value": 50.0, "unit": "ms"}}})
    return [*lines, {"metadata": lines[0]["metadata"], "metrics": {}, "error": {"code": 500}}]


def vllm(**fields: Any) -> dict[str, Any]:
    return {
        "request_rate": 10.0,
        "burstiness": 1.0,
        "max_concurrency": None,
        "completed": 100,
        "request_throughput": 9.9,
        "p99_ttft_ms": 20.0,
        **fields,
    }


def audit_of(folder: Path, content: Any) -> Audit:
    [found] = audited(written(folder, content))
    return found


def written(folder: Path, content: Any, *, lines: bool = False) -> Path:
    file = folder / "result.json"
    file.write_text("\n".join(map(json.dumps, content)) if lines else json.dumps(content, indent=1))
    return file


@pytest.mark.parametrize("kind", ["constant", "poisson", "trace"])
def test_guidellm_open(tmp_path: Path, kind: str) -> None:
    found = audit_of(tmp_path, guidellm(kind))
    assert (found.load, found.delay, found.requests) == (Load.OPEN, Delay.LEFT_OUT, 100)
    assert found.benchmark == f"{kind} 10/s"
    assert found.published_p99_ms == pytest.approx(50)
    assert found.scheduled_p99_ms == pytest.approx(P99_MS, abs=0.01)
    assert found.delay_p99_ms == pytest.approx(P99_WAIT_MS, abs=0.01)
    assert found.factor == pytest.approx(P99_MS / 50, rel=1e-3)


@pytest.mark.parametrize("kind", ["synchronous", "concurrent", "throughput"])
def test_guidellm_closed(tmp_path: Path, kind: str) -> None:
    found = audit_of(tmp_path, guidellm(kind))
    assert (found.load, found.delay, found.scheduled_p99_ms, found.factor) == (Load.CLOSED, Delay.UNKNOWN, None, None)
    assert found.scheduled_reason == "a closed loop has no schedule"


def test_guidellm_without_what_it_needs(tmp_path: Path) -> None:
    untimed = audit_of(tmp_path, guidellm("constant", timed=False))
    assert (untimed.load, untimed.scheduled_p99_ms, untimed.requests) == (Load.OPEN, None, 100)
    of_requests = audit_of(tmp_path, guidellm("constant", p99=None))
    assert of_requests.published_p99_ms == pytest.approx(50, abs=0.01)
    assert of_requests.published_as == "request_start to request_end of the requests in the file"
    strange = audit_of(tmp_path, guidellm("bursts"))
    assert (strange.load, strange.delay, strange.scheduled_p99_ms) == (Load.UNKNOWN, Delay.UNKNOWN, None)


def test_guidellm_of_several_benchmarks(tmp_path: Path) -> None:
    document = guidellm("constant")
    document["benchmarks"] += guidellm("concurrent")["benchmarks"]
    assert [each.load for each in audited(written(tmp_path, document))] == [Load.OPEN, Load.CLOSED]


def test_the_summary_of_inference_perf(tmp_path: Path) -> None:
    of_rate = audit_of(tmp_path, inference_perf(requested_rate=10.0, achieved_rate=9.5))
    assert (of_rate.load, of_rate.delay, of_rate.requests) == (Load.OPEN, Delay.LEFT_OUT, 100)
    assert (of_rate.published_p99_ms, of_rate.delay_p99_ms, of_rate.scheduled_p99_ms) == (50, 90, None)
    assert audit_of(tmp_path, inference_perf(requested_rate=10.0, concurrency=8)).load is Load.CLOSED
    assert audit_of(tmp_path, inference_perf()).load is Load.UNKNOWN


def test_the_requests_of_inference_perf(tmp_path: Path) -> None:
    found = audit_of(tmp_path, inference_perf_requests(scheduled=True))
    assert (found.load, found.delay, found.requests) == (Load.UNKNOWN, Delay.LEFT_OUT, 100)
    assert found.published_p99_ms == pytest.approx(50)
    assert found.scheduled_p99_ms == pytest.approx(P99_MS)
    assert found.delay_p99_ms == pytest.approx(P99_WAIT_MS)
    assert audit_of(tmp_path, inference_perf_requests(scheduled=False)).scheduled_p99_ms is None


def test_aiperf(tmp_path: Path) -> None:
    [found] = audited(written(tmp_path, aiperf(), lines=True))
    assert (found.tool, found.load, found.delay, found.requests) == ("aiperf", Load.UNKNOWN, Delay.LEFT_OUT, 100)
    assert found.published_p99_ms == pytest.approx(50)
    assert found.scheduled_p99_ms == pytest.approx(P99_MS)
    [without] = audited(written(tmp_path, aiperf(issued=False), lines=True))
    assert (without.scheduled_p99_ms, without.delay_p99_ms) == (None, None)
    [alone] = audited(written(tmp_path, aiperf()[1:2], lines=True))
    assert alone.requests == 1


@pytest.mark.parametrize(
    ("fields", "load", "delay", "published"),
    [
        ({}, Load.OPEN, Delay.UNKNOWN, 20),
        ({"request_rate": "inf", "p99_e2el_ms": 70.0}, Load.OPEN, Delay.UNKNOWN, 70),
        ({"request_rate": float("inf")}, Load.OPEN, Delay.UNKNOWN, 20),
        ({"max_concurrency": 8}, Load.CLOSED, Delay.LEFT_OUT, 20),
        ({"request_rate": None, "p99_ttft_ms": None}, Load.UNKNOWN, Delay.UNKNOWN, None),
    ],
)
def test_vllm(tmp_path: Path, fields: dict[str, Any], load: Load, delay: Delay, published: float | None) -> None:
    found = audit_of(tmp_path, vllm(**fields))
    assert (found.load, found.delay, found.published_p99_ms) == (load, delay, published)
    assert found.scheduled_p99_ms is None


def test_vllm_without_a_bound_of_which_nothing_is_known(tmp_path: Path) -> None:
    document = vllm()
    del document["max_concurrency"]
    assert audit_of(tmp_path, document).load is Load.UNKNOWN


def test_results_of_vllm_that_were_appended(tmp_path: Path) -> None:
    found = audited(written(tmp_path, [vllm(), vllm(request_rate=20.0)], lines=True))
    assert [each.benchmark for each in found] == ["10/s", "20/s"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; there are profile_export.jsonl (aiperf)"),
        ("{", "not JSON: "),
        ("[]", "of no known format"),
        ('{"benchmarks": []}', "of no known format"),
        ('{"results": 1}', "of no known format"),
        ('"text"', "of no known format"),
        ("[" * 99_999, "nested"),
        (json.dumps(aiperf()[0]) + "\n{", ":2: not JSON: "),
        (json.dumps(aiperf()[0]) + "\n[1]\nnull", ""),
        (json.dumps(guidellm("constant")).replace('"successful": [', '"successful": [7, null, '), ""),
        (json.dumps(vllm(completed="many", p99_ttft_ms=[])), ""),
    ],
)
def test_what_is_broken_is_said_in_a_line_or_left_out(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "result.json"
    file.write_text(text)
    if not message:
        assert audited(file)
        return
    with pytest.raises(InputError) as caught:
        audited(file)
    assert str(caught.value).startswith(str(file))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_percentile_is_a_latency_of_a_request() -> None:
    assert p99_ms(number / 1e3 for number in range(1, 101)) == 99
    assert p99_ms([0.5]) == 500
    assert p99_ms([]) is None


def test_every_format_is_one_of_those_tried_here() -> None:
    assert set(FORMATS) == {"guidellm", "inference-perf", "aiperf", "vllm"}


def test_the_command(tmp_path: Path) -> None:
    file = written(tmp_path, guidellm("poisson"))
    [found] = json_of(run_lab(None, "audit-bench", file, "--json"))["benchmarks"]
    assert (found["load"], found["delay"]) == ("open", "left out")
    assert found["factor"] > 2

    shown = run_lab(None, "audit-bench", file).stdout
    for words in ("guidellm poisson 10/s", "left out, p99 90.0 ms", "50.0 ms", "140.0 ms (× 2.80)"):
        assert words in shown, shown
    missing = run_lab(None, "audit-bench", tmp_path / "missing.json")
    assert (missing.returncode, missing.stderr.count("\n")) == (1, 1)
