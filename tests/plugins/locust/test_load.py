"""Runs that Locust drives through a lab: the same history, the same checkers, and a verdict that says what it was."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import urllib.request
from datetime import timedelta
from pathlib import Path

import pytest

from lab.history import read_parquet
from lab.lab import Lab
from lab.runs import judge
from lab.waiting import eventually
from tests.lab_command import await_line, json_of, refusal, run_lab, start_lab
from tests.labs import processes_of
from tests.ports import free_port

MINE = """from locust import constant, task
from lab.plugins.locust import LabUser
class Shopper(LabUser):
    wait_time = constant(0.1)
    @task(3)
    def rows(self):
        self.ask("HomepageRows")
    @task
    def watch_on(self):
        assert self.ask("ContinueWatchingRanking", context={"device": "tv", "country": "US"}).version == "v2"
"""


def drive(lab: Lab, *arguments: str) -> subprocess.Popen[str]:
    return start_lab(lab, "load", "--engine", "locust", *arguments)


def test_two_workers_leave_the_history_of_an_open_loop(lab: Lab) -> None:
    units = processes_of(lab)

    result = run_lab(
        lab,
        *("load", "--workers", "2", "--rate", "100", "--duration", "5", "--users", "200"),
        *("--arrivals", "constant", "--json"),
    )

    figures = json_of(result, statuses=(0, 2))  # a busy machine may make the driver late
    assert (figures["planned"], figures["ok"], figures["missing"], figures["offered"]) == (500, 500, 0, 100.0)
    assert (figures["misrouted"], figures["torn"]) == (0, 0)
    others = {each["checker"]: each["outcome"] for each in figures["verdicts"] if each["checker"] != "driver"}
    assert others["accounting"] == others["routing"] == others["tear"] == "valid"
    records = read_parquet(lab.runs / "latest" / "history.parquet")
    assert {record.sequence for record in records} == set(range(500))
    assert len({record.request_id for record in records}) == 500
    assert len({record.user_id for record in records}) == 200
    assert {record.topology for record in records} == {"mesh"}
    assert processes_of(lab) == units


def test_an_edited_locustfile_with_its_own_waits_is_called_a_closed_loop(lab: Lab, tmp_path: Path) -> None:
    mine = tmp_path / "shop.py"
    mine.write_text(MINE)

    result = run_lab(lab, "load", "--locustfile", str(mine), "--duration", "2", "--users", "10", "--json")

    figures = json_of(result, statuses=(0, 2))
    assert figures["offered"] is None
    assert figures["planned"] == figures["ok"] > 20
    (driver,) = [each["summary"] for each in figures["verdicts"] if each["checker"] == "driver"]
    assert "closed loop" in driver
    folder = lab.runs / "latest"
    assert (folder / "locustfile.py").read_text() == MINE
    use_cases = {record.use_case for record in read_parquet(folder / "history.parquet")}
    assert use_cases == {"HomepageRows", "ContinueWatchingRanking"}
    report = run_lab(lab, "report", str(folder.resolve()))
    assert report.returncode == 0, report.stderr
    assert "closed loop" in (folder / "report.html").read_text()
    (folder / "locustfile.py").write_text(MINE.replace("0.1", "0.2"))
    assert "locustfile.py: was changed after the run was sealed" in refusal(run_lab(lab, "check", folder), status=3)


def test_ctrl_c_keeps_and_judges_the_history_and_leaves_no_process(lab: Lab) -> None:
    units = processes_of(lab)
    run = drive(lab, "--workers", "2", "--rate", "50", "--duration", "100", "--users", "20")
    await_line(run, "done")

    run.send_signal(signal.SIGINT)
    output, _ = run.communicate(timeout=60)

    assert run.returncode == 0, output
    assert "not sent, as the run was stopped" in " ".join(output.split())
    counts = re.search(r"(\d+) planned, (\d+) recorded", output)
    assert counts is not None
    assert counts[1] == counts[2]
    assert processes_of(lab) == units


def test_a_ui_steered_run_is_judged_and_a_second_ui_is_refused(lab: Lab) -> None:
    port = free_port()
    run = drive(lab, "--ui", "--ui-port", str(port), "--users", "20", "--rate", "40")
    url = f"http://127.0.0.1:{port}"
    await_line(run, "UI of locust", url)

    def post(path: str, form: bytes) -> int:
        with urllib.request.urlopen(f"{url}{path}", form, timeout=10) as answer:  # noqa: S310 (our own)
            return int(answer.status)

    with urllib.request.urlopen(url, timeout=10) as page:
        assert page.status == 200
    assert post("/swarm", b"user_count=20&spawn_rate=20") == 200
    second = run_lab(lab, "load", "--engine", "locust", "--ui", "--ui-port", str(port))
    assert "--ui-port" in refusal(second, status=3)
    eventually("20 requests", lambda: requests_of(url), within=timedelta(seconds=30), until=lambda count: count > 20)
    assert post("/quit", b"") == 200
    output, _ = run.communicate(timeout=60)

    assert run.returncode in (0, 2), output
    result = judge((lab.runs / "latest").resolve())
    assert result.summary.offered is None
    assert result.summary.planned == result.summary.ok > 20
    assert "steered by hand" in output


def test_stop_in_the_ui_ends_and_judges_the_run(lab: Lab) -> None:
    port = free_port()
    run = drive(lab, "--ui", "--ui-port", str(port), "--users", "20", "--rate", "40", "--payload", "3000")
    url = f"http://127.0.0.1:{port}"
    await_line(run, "UI of locust", url)
    with urllib.request.urlopen(url, timeout=10) as page:
        assert ", as homepage" in page.read().decode()
    with urllib.request.urlopen(f"{url}/swarm", b"user_count=20&spawn_rate=20", timeout=10) as answer:  # noqa: S310 (our own)
        assert answer.status == 200
    eventually("20 requests", lambda: requests_of(url), within=timedelta(seconds=30), until=lambda count: count > 20)
    assert sizes_of(url) >= 3000

    with urllib.request.urlopen(f"{url}/stop", b"", timeout=10) as answer:  # noqa: S310 (our own)
        assert answer.status == 200
    output, errors = run.communicate(timeout=60)

    assert run.returncode in (0, 2), errors
    assert judge((lab.runs / "latest").resolve()).summary.planned > 20
    assert errors.splitlines()[-1].split()[0] == "ended"
    assert "steered by hand" in output


def sizes_of(url: str) -> float:
    with urllib.request.urlopen(f"{url}/stats/requests", timeout=10) as answer:  # noqa: S310 (our own)
        return max(float(each["avg_content_length"]) for each in json.load(answer)["stats"])


def requests_of(url: str) -> int:
    with urllib.request.urlopen(f"{url}/stats/requests", timeout=10) as answer:  # noqa: S310 (our own)
        stats = json.load(answer)["stats"]
    return sum(each["num_requests"] for each in stats if each["name"] == "Aggregated")


@pytest.mark.parametrize(
    ("mistake", "why"),
    [
        (["--engine", "locust", "--locustfile", "none.py"], "there is no such file"),
        (["--engine", "grasshopper"], "engine 'grasshopper' is not known"),
        (["--engine", "open-loop", "--workers", "2"], "--workers: is for --engine locust, not for open-loop"),
        (["--engine", "locust", "--ui-port", "9000"], "there is no UI"),
        (["--engine", "locust", "--workers", "5", "--users", "4"], "each needs at least one user"),
        (["--engine", "locust", "--drivers", "2"], "not for engine locust"),
    ],
)
def test_a_steered_load_that_cannot_be_is_one_line_and_leaves_no_folder(lab: Lab, mistake: list[str], why: str) -> None:
    before = sorted(lab.runs.glob("*"))

    result = run_lab(lab, "load", *mistake)

    assert why in refusal(result, status=3)
    assert sorted(lab.runs.glob("*")) == before
