"""Two runs against each other: a difference that is there is found, no other is, and conditions are named."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lab.measure.compare import Interval
from lab.plugins.bench.harness.result import BenchResult, Claim, Ran
from lab.report import compare_runs, read_runs, render
from tests.lab_command import run_lab
from tests.report.builders import make_record, write_run


def noisy_run(home: Path, number: int, p50_ms: float, **changes: Any) -> Path:
    """Writes a run whose latencies are lognormal around a p50, so that each seed draws others."""
    draw = random.Random(number)  # noqa: S311 (no secret)
    records = [make_record(each, latency_ms=p50_ms * draw.lognormvariate(0, 0.3)) for each in range(400)]
    return write_run(home, records, name=f"run-{number}", **changes)


def test_a_difference_that_is_there_is_found_with_its_ratio(tmp_path: Path) -> None:
    a, b = read_runs([noisy_run(tmp_path, 1, 1.0), noisy_run(tmp_path, 2, 2.0, topology="gateway")])

    found = compare_runs(a, replace(b, start_ns=a.until_ns + 1))

    p50 = found.figures[0]
    assert (p50.name, p50.unit, p50.is_distinguishable, p50.verdict) == ("p50", "ms", True, "B is more")
    assert p50.difference.low <= 1.0 <= p50.difference.high
    assert p50.ratio.low <= 2.0 <= p50.ratio.high
    assert not found.differs  # the topology is the subject
    assert any("share no rounds" in warning for warning in found.warnings)
    together = compare_runs(a, b).warnings
    assert any("at the same time" in warning for warning in together)
    assert not any("one after another" in warning for warning in together)


def test_equal_runs_are_rarely_distinguishable(tmp_path: Path) -> None:
    runs = read_runs([noisy_run(tmp_path, seed, 1.0) for seed in range(40)])

    apart = sum(compare_runs(a, b).figures[0].is_distinguishable for a, b in zip(runs[::2], runs[1::2], strict=True))

    # 5 % of 20 is 1, sigma 1; 5 sigma.
    assert apart <= 6


def test_every_condition_that_differs_is_named(tmp_path: Path) -> None:
    other = noisy_run(tmp_path, 2, 1.0, payload_bytes=27_000, seed=3, versions={"grpcio": "1.85.3", "cpus": "64"})

    found = compare_runs(*read_runs([noisy_run(tmp_path, 1, 1.0), other]))

    assert [name for name, _, _ in found.differs] == ["payload", "seed", "machine"]
    assert (
        found.differs_besides
    ) == "also differs in: payload (400 B, 27 KB), seed (0, 3) and machine (kernel 6.1, cpus 64)"


def test_a_report_of_two_runs_has_the_comparison(tmp_path: Path) -> None:
    runs = read_runs([noisy_run(tmp_path, seed, 1.0) for seed in (1, 2, 3)])

    page = render(runs[:2])
    assert 'id="comparison"' in page
    assert "not distinguishable" in page
    assert 'id="comparison"' not in render(runs)


def test_the_command_prints_and_writes_the_comparison(tmp_path: Path) -> None:
    done = run_lab(
        None,
        "compare",
        noisy_run(tmp_path, 1, 1.0),
        noisy_run(tmp_path, 2, 3.0, payload_bytes=27_000),
        "--html",
        tmp_path / "two.html",
    )

    assert done.returncode == 0, done.stderr
    for found in ("p99.9, ms", "B is more", "also differs in: payload (400 B, 27 KB)", "at the same time", "n = 400"):
        assert found in done.stdout
    assert 'id="comparison"' in (tmp_path / "two.html").read_text(encoding="utf-8")


def test_the_document_knows_no_infinity(tmp_path: Path) -> None:
    done = run_lab(None, "compare", noisy_run(tmp_path, 1, 1.0), noisy_run(tmp_path, 2, 1.0), "--json")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    (found,) = json.loads(done.stdout, parse_constant=refuse)["comparisons"]
    by_name = {each["name"]: each for each in found["figures"]}
    assert list(by_name) == ["p50", "p90", "p99", "p99.9", "failed"]
    assert None is by_name["p99.9"]["a"]["high"]  # 400 requests tell nothing of how bad the worst thousandth may be
    assert set(by_name["p50"]["difference"]) == {"estimate", "low", "high", "count"}
    assert (found["comparable"], found["differs_besides"]) == (True, [])


def _write_bench(folder: Path, name: str, arms: dict[str, Sequence[float]], cpus: str = "2") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    figure = Interval(estimate=arms["mesh"][0], low=0.0, high=9.0, confidence=0.95, rounds=7)
    ran = Ran(started="2026-01-02T03:04:05+00:00", took_s=6.0, rounds=7, machine={"cpus": cpus})
    claims = [Claim(text="adds little", figure=figure, at_most=1.5)]
    result = BenchResult(name=name, unit="ms", samples=arms, claims=claims, notes=[], ran=ran)
    (folder / f"{name}.json").write_text(json.dumps(result.to_document()))
    return folder


def test_two_calls_of_a_bench_are_compared_arm_by_arm(tmp_path: Path) -> None:
    slow = [value / 100 for value in range(300, 310)]
    a = _write_bench(tmp_path / "a", "cost", {"direct": [1.0, 1.1, 1.2], "mesh": [value / 3 for value in slow]})
    b = _write_bench(tmp_path / "b", "cost", {"direct": [1.0, 1.1, 1.2], "mesh": slow}, cpus="64")

    done = run_lab(None, "compare", a, b)

    assert done.returncode == 0, done.stderr
    verdicts = {line.split()[0].strip(","): line for line in done.stdout.splitlines() if line}
    assert "not distinguishable" in verdicts["direct"]
    assert "B is more" in verdicts["mesh"]
    assert "not distinguishable" in verdicts["adds"]
    assert "also differs in: cpus (2, 64)" in done.stdout


def test_runs_that_cannot_be_compared_are_one_line(tmp_path: Path) -> None:
    run = noisy_run(tmp_path, 1, 1.0)
    one, other = (_write_bench(tmp_path / name, name, {"mesh": [1.0, 2.0]}) for name in ("cost", "pace"))

    for arguments, named in (
        ((run, tmp_path / "nothing"), "nothing/plan.json"),
        ((run, one), "name two runs"),
        ((one, other), "no bench in common (cost and pace)"),
    ):
        done = run_lab(None, "compare", *arguments, "--json")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
        assert named in done.stderr
