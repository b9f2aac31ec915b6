"""Who is late beside another worker tries again alone, and only for that."""

import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from lab import CHECKOUT
from tests.sessions import run_pytest

CONFTEST = """
import json
from scenarios.framework import rerun

def pytest_configure(config):
    config.pluginmanager.register(rerun)

def pytest_runtest_logreport(report):
    if report.when == "call" and hasattr(report, "node"):  # it has come from a worker
        with open("reports", "a") as file:
            crash = getattr(report.longrepr, "reprcrash", None)
            message = crash.message if crash else ""
            print(json.dumps([report.nodeid.partition("::")[2], message, dict(report.user_properties)]), file=file)
"""
SOME = """
import os
import pytest
from scenarios.framework.rerun import reason
from scenarios.framework.verdicts import LateError, UnknownError

pytestmark = getattr(pytest.mark, "scenario")(takes_s=1)  # unseen by the entry point: there is no lab

def say(*words):
    with open("said", "a") as file:
        print(os.environ["PYTEST_XDIST_WORKER"], *words, file=file)

@pytest.fixture(scope="session")
def lab():
    say("up")
    yield
    say("down")

@pytest.fixture(autouse=True)
def scenario(request, lab, record_property):
    record_property("first", reason(request.node))
    say("begins", request.node.name)
    yield
    say("ends", request.node.name)

def test_late_once(request):
    if not reason(request.node):
        raise LateError("p99 50 ms")

def test_late_for_ever():
    raise LateError("p99 60 ms")

def test_late_and_wrong_alone(request):
    if not reason(request.node):
        raise LateError("p99 70 ms")
    assert not "misrouted"

def test_unknown():
    raise UnknownError("nobody saw it")

def test_wrong():
    assert not "misrouted"

@pytest.mark.parametrize("number", range(5))
def test_fine(number):
    pass
"""
LATE = ("test_late_once", "test_late_for_ever", "test_late_and_wrong_alone")
OTHERS = ("test_unknown", "test_wrong", *(f"test_fine[{number}]" for number in range(5)))


class Report(NamedTuple):
    """Of one scenario: its name, why it failed, and its properties."""

    name: str
    message: str
    properties: dict[str, str]


def _session(folder: Path, workers: int) -> tuple[list[list[str]], list[Report]]:
    """What the workers of a session said, each line with the worker's name, and what was reported of scenarios."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_some.py").write_text(SOME)
    (folder / "pytest.ini").write_text("[pytest]\n")
    done = run_pytest("-n", workers, "-p", "no:cacheprovider", cwd=folder, imports=CHECKOUT)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "INTERNALERROR" not in done.stdout + done.stderr
    said = [line.split() for line in (folder / "said").read_text().splitlines()]
    return said, [Report(*json.loads(line)) for line in (folder / "reports").read_text().splitlines()]


@pytest.mark.parametrize(("workers", "tries"), [(2, 2), (1, 1)])
def test_only_who_was_late_tries_again_and_only_beside_others(tmp_path: Path, workers: int, tries: int) -> None:
    said, reports = _session(tmp_path, workers)

    begun = Counter(line[2] for line in said if line[1] == "begins")
    assert begun == dict.fromkeys(LATE, tries) | dict.fromkeys(OTHERS, 1)
    assert sorted(report.name for report in reports) == sorted([*LATE, *OTHERS])
    for worker in {line[0] for line in said}:
        theirs = [line[1:] for line in said if line[0] == worker]
        # One lab for all, unless it was torn down after the last one, which then was late.
        assert theirs.count(["up"]) == theirs.count(["down"]) <= tries
        tried = [line[1] for line in theirs if line[0] == "begins"]
        assert [line[1] for line in theirs if line[0] == "ends"] == tried  # the first try has ended before the second
        firsts = list(dict.fromkeys(tried))
        assert tried == firsts + [name for name in firsts if name in LATE] * (tries - 1)  # after all others


def test_the_second_try_counts_and_tells_of_the_first(tmp_path: Path) -> None:
    _, reports = _session(tmp_path, 2)

    assert {report.name: report.message.partition("\n")[0] for report in reports} == {
        "test_late_once": "",
        "test_late_for_ever": "scenarios.framework.verdicts.LateError: UNKNOWN: p99 60 ms",
        "test_late_and_wrong_alone": "AssertionError: assert not 'misrouted'",
        "test_unknown": "scenarios.framework.verdicts.UnknownError: UNKNOWN: nobody saw it",
        "test_wrong": "AssertionError: assert not 'misrouted'",
    } | dict.fromkeys(OTHERS[2:], "")
    firsts = {report.name: report.properties["first"] for report in reports}
    assert [firsts[name] for name in LATE] == [f"UNKNOWN: p99 {ms} ms" for ms in (50, 60, 70)]
    assert {firsts[name] for name in OTHERS} == {""}
