"""Who is late beside another worker tries again alone, and only for that."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from lab.lab import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

WORKER = """
import json

def pytest_configure(config):
    config.workerinput = {{"workercount": {workers}, "workerid": "gw0"}}

def pytest_runtest_logreport(report):
    if report.when == "call":
        with open({path!r}, "a") as file:
            crash = getattr(report.longrepr, "reprcrash", None)
            message = crash.message if crash else ""
            print(json.dumps([report.nodeid.partition("::")[2], message, dict(report.user_properties)]), file=file)
"""
SOME = """
import pytest
from scenarios.again import why_again
from scenarios.verdicts import LateError, UnknownError

@pytest.fixture(scope="session")
def lab():
    print("up")
    yield
    print("down")

@pytest.fixture(autouse=True)
def scenario(request, lab, record_property):
    record_property("first", why_again(request.node))
    print("begins", request.node.name)
    yield
    print("ends")

def test_late_once(request):
    if not why_again(request.node):
        raise LateError("p99 50 ms")

def test_late_for_ever():
    raise LateError("p99 60 ms")

def test_late_and_wrong_alone(request):
    if not why_again(request.node):
        raise LateError("p99 70 ms")
    assert not "misrouted"

def test_unknown():
    raise UnknownError("nobody saw it")

def test_wrong():
    assert not "misrouted"

def test_fine():
    pass
"""
LATE = ("test_late_once", "test_late_for_ever", "test_late_and_wrong_alone")


def _session(folder: Path, workers: int, *options: str) -> tuple[str, list[tuple[str, str, dict[str, str]]]]:
    """What a session printed, and what was reported of each scenario: its name, why it failed, its properties."""
    (folder / "as_worker.py").write_text(WORKER.format(workers=workers, path=str(folder / "reports")))
    (folder / "test_some.py").write_text(SOME)
    (folder / "pytest.ini").write_text("[pytest]\n")
    plugins = ("-p", "as_worker", "-p", "scenarios.again", "-p", "no:xdist", "-p", "no:cacheprovider")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-s", "-q", *plugins, *options, "test_some.py"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{folder}:{CHECKOUT}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout, [tuple(json.loads(line)) for line in (folder / "reports").read_text().splitlines()]


@pytest.mark.parametrize(("workers", "tries"), [(2, 2), (1, 1)])
def test_only_who_was_late_tries_again_and_only_beside_others(tmp_path: Path, workers: int, tries: int) -> None:
    printed, _ = _session(tmp_path, workers)

    begun = [line.split()[1] for line in printed.splitlines() if line.strip(".F").startswith("begins")]
    assert [begun.count(name) for name in LATE] == [tries] * len(LATE)
    assert [begun.count(name) for name in ("test_unknown", "test_wrong", "test_fine")] == [1, 1, 1]
    assert begun[6:] == list(LATE) * (tries - 1)  # after all others
    assert printed.count("ends") == len(begun)  # the first try has ended before the second begins
    assert printed.count("up\n") == printed.count("down\n") == 1


def test_the_second_try_counts_and_tells_of_the_first(tmp_path: Path) -> None:
    _, reports = _session(tmp_path, 2)

    assert {name: message.partition("\n")[0] for name, message, _ in reports} == {
        "test_late_once": "",
        "test_late_for_ever": "scenarios.verdicts.LateError: UNKNOWN: p99 60 ms",
        "test_late_and_wrong_alone": "AssertionError: assert not 'misrouted'",
        "test_unknown": "scenarios.verdicts.UnknownError: UNKNOWN: nobody saw it",
        "test_wrong": "AssertionError: assert not 'misrouted'",
        "test_fine": "",
    }
    assert len(reports) == 6
    firsts = {name: properties["first"] for name, _, properties in reports}
    assert [firsts[name] for name in LATE] == [f"UNKNOWN: p99 {ms} ms" for ms in (50, 60, 70)]
    assert firsts["test_fine"] == firsts["test_wrong"] == ""


def test_who_does_not_come_to_a_second_try_failed_at_the_first(tmp_path: Path) -> None:
    printed, reports = _session(tmp_path, 2, "--exitfirst")  # after test_unknown

    assert "1 passed" not in printed
    assert {name: message.partition("\n")[0] for name, message, _ in reports} == {
        "test_late_once": "scenarios.verdicts.LateError: UNKNOWN: p99 50 ms",
        "test_late_for_ever": "scenarios.verdicts.LateError: UNKNOWN: p99 60 ms",
        "test_late_and_wrong_alone": "scenarios.verdicts.LateError: UNKNOWN: p99 70 ms",
        "test_unknown": "scenarios.verdicts.UnknownError: UNKNOWN: nobody saw it",
    }
