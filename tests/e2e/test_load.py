"""Runs: their figures, their folder, and that a judge finds what is wrong with them."""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.checkers import Outcome
from lab.history import Record, read_parquet, write_parquet
from lab.lab import Lab
from lab.runs import LoadOptions, judge
from lab.runtime.state import LabState
from tests.lab_command import await_line, json_of, refusal, run_lab, start_lab

Change = Callable[[list[Record]], list[Record]]

KEYS = {
    *("run_dir", "offered", "achieved_rate", "ok", "failed", "misrouted", "torn", "verdict"),
    *("p50_ms", "p90_ms", "p99_ms", "p999_ms", "schedule_delay_p99_ms"),
}


@pytest.fixture(scope="module")
def run(lab: Lab) -> Path:
    """A run in which nothing went wrong."""
    result = lab.load(LoadOptions(topology="mesh", caller="homepage", rate=100, duration_s=2))
    assert result.summary.ok == result.summary.planned > 0
    return result.folder


@pytest.fixture
def tampered(run: Path, tmp_path: Path) -> Callable[[Change], Path]:
    """Copies of the run whose history was changed, and whose seal was removed: checkers must find what is wrong."""

    def tamper(change: Change) -> Path:
        folder = tmp_path / "tampered"
        shutil.copytree(run, folder)
        write_parquet(change(read_parquet(folder / "history.parquet")), folder / "history.parquet")
        (folder / "seal.json").unlink()
        return folder

    return tamper


def test_load_prints_its_figures_as_json(lab: Lab) -> None:
    result = run_lab(lab, "load", "--topology", "gateway", "--rate", "50", "--duration", "2", "--json")

    figures = json_of(result, statuses=(0, 2))
    assert figures.keys() >= KEYS
    assert (figures["failed"], figures["misrouted"], figures["torn"]) == (0, 0, 0)
    assert figures["ok"] > 0


def test_several_drivers_do_what_one_does(lab: Lab) -> None:
    options = ("load", "--topology", "mesh", "--rate", "100", "--duration", "2", "--tear-every", "20", "--json")

    results = [run_lab(lab, *options, "--drivers", number) for number in ("1", "2")]

    figures = [json.loads(result.stdout) for result in results]
    histories = [
        sorted(read_parquet(Path(each["run_dir"]) / "history.parquet"), key=lambda record: record.sequence)
        for each in figures
    ]
    drivers = [json.loads((Path(each["run_dir"]) / "driver.json").read_text()) for each in figures]
    assert [driver["processes"] for driver in drivers] == [1, 2]
    asked = [[(record.use_case, record.user_id, record.device) for record in history] for history in histories]
    assert asked[0] == asked[1]
    torn = [sum(record.attempts > 1 for record in history) for history in histories]
    assert abs(torn[0] - torn[1]) <= 1 < torn[0]
    for each in figures:
        judged = {verdict["checker"]: verdict["outcome"] for verdict in each["verdicts"]}
        assert (judged["accounting"], judged["routing"]) == ("valid", "valid")
        assert each["ok"] == len(asked[0])


def test_a_runs_folder_tells_its_whole_story(run: Path) -> None:
    names = {path.name for path in run.iterdir()}

    assert names >= {
        *("planned.parquet", "published.json", "probes.json"),
        *("plan.json", "driver.json", "history.parquet", "latency.hdr", "revisions.json", "summary.json"),
        *("versions.json", "spec.json", "receipt-keys.json", "seal.json", "units", "sidecars"),
    }
    assert (run / "units" / "control-plane" / "log").read_text()
    dump = json.loads((run / "sidecars" / "homepage-sidecar.config_dump.json").read_text())
    assert "cw-ranker.v1" in json.dumps(dump)
    assert run.parent.joinpath("latest").exists()


def test_no_file_of_a_run_has_the_secret_of_the_labs_receipts(run: Path, lab: Lab) -> None:
    secret = LabState.of(lab.folder).spec.receipt_key

    assert secret
    assert [each for each in run.rglob("*") if each.is_file() and secret.encode() in each.read_bytes()] == []


def test_a_run_keeps_only_the_earlier_revisions_that_its_answers_rest_on(lab: Lab, routes: Path) -> None:
    latest = [lab.routes.publish(routes) for _ in range(4)][-1]
    load = LoadOptions(topology="mesh", caller="homepage", rate=50, duration_s=0.5)

    *_, result = (lab.load(load) for _ in range(2))  # after the first they have settled

    kept = {each["revision"] for each in json.loads((result.folder / "revisions.json").read_text())}
    named = {
        number
        for record in read_parquet(result.folder / "history.parquet")
        for number in (record.revision, record.served_revision)
    }
    assert kept == (named - {0}) | {latest}
    assert len(kept) < latest


def test_a_good_run_is_valid_wherever_its_folder_is(run: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(run, elsewhere)

    verdicts = json_of(run_lab(None, "check", str(elsewhere), "--json"), statuses=(0, 2))["verdicts"]

    judged = {each["checker"]: each["outcome"] for each in verdicts if each["checker"] != "driver"}
    # Others may be among them, where tests before this one have published.
    assert judged.items() >= {"accounting": "valid", "routing": "valid", "tear": "valid"}.items()
    assert set(judged.values()) == {"valid"}


def _first_rows(records: list[Record], **change: Any) -> list[Record]:
    index = next(index for index, record in enumerate(records) if record.model == "rows")
    return [*records[:index], replace(records[index], **change), *records[index + 1 :]]


@pytest.mark.parametrize(
    ("checker", "change"),
    [
        ("routing", lambda records: _first_rows(records, version="v7")),
        ("routing", lambda records: _first_rows(records, cluster="ml-cluster-1")),
        ("routing", lambda records: _first_rows(records, score=0.5)),
        ("routing", lambda records: _first_rows(records, device="")),
        ("tear", lambda records: _first_rows(records, routing_key="cw-ranker.v1")),
        ("accounting", lambda records: [*records, records[0]]),
    ],
    ids=["version", "cluster", "score", "context", "tear", "twice"],
)
def test_a_run_in_which_one_answer_is_wrong_is_invalid(
    tampered: Callable[[Change], Path], checker: str, change: Change
) -> None:
    judged = judge(tampered(change))

    assert judged.outcome is Outcome.INVALID
    assert checker in {each.checker for each in judged.verdicts if each.violations}


@pytest.mark.parametrize(
    "change", [lambda _: [], lambda records: records[: len(records) // 2]], ids=["nothing", "half"]
)
def test_a_run_that_is_not_all_there_is_unknown(tampered: Callable[[Change], Path], change: Change) -> None:
    assert run_lab(None, "check", str(tampered(change))).returncode == 2


def test_a_run_that_was_changed_after_it_was_sealed_is_not_judged(
    run: Path, tampered: Callable[[Change], Path]
) -> None:
    folder = tampered(lambda records: _first_rows(records, version="v7"))
    shutil.copyfile(run / "seal.json", folder / "seal.json")

    result = run_lab(None, "check", str(folder))

    assert result.returncode == 3
    assert result.stderr.endswith("history.parquet: was changed after the run was sealed; restore it\n")


def test_a_folder_without_a_history_is_said_to_be_no_run(run: Path, tmp_path: Path) -> None:
    shutil.copyfile(run / "plan.json", tmp_path / "plan.json")

    assert refusal(run_lab(None, "check", str(tmp_path)), status=3)


def test_direct_knows_no_rules_and_is_found_out(lab: Lab) -> None:
    options = LoadOptions(
        topology="direct",
        caller="homepage",
        use_cases=("ContinueWatchingRanking",),
        contexts={"device": ("tv",), "country": ("US",)},
        rate=50,
        duration_s=1,
    )

    result = lab.load(options)

    assert (result.outcome, result.misrouted) == ("invalid", result.summary.planned)


def test_ctrl_c_ends_a_run_with_every_request_accounted_for(lab: Lab) -> None:
    run = start_lab(lab, "load", "--rate", "50", "--duration", "60")
    await_line(run, "done")
    run.send_signal(signal.SIGINT)
    output, _ = run.communicate(timeout=30)

    assert run.returncode == 0, output
    planned, recorded = re.search(r"(\d+) planned, (\d+) recorded", output), re.search(r"(\d+) UNSENT", output)
    assert planned is not None
    assert recorded is not None
    assert planned[1] == planned[2]
    assert "not sent, as the run was stopped after" in " ".join(output.split())


def test_a_request_of_a_run_is_explained_with_its_proof(lab: Lab, run: Path) -> None:
    record = next(each for each in read_parquet(run / "history.parquet") if each.status == "OK")

    story = json_of(run_lab(lab, "explain", record.request_id, "--run", run, "--json"))
    printed = run_lab(lab, "explain", record.request_id)

    assert story["answer"]["version"] == record.version
    assert (story["decision"]["routing_key"], story["proof"]["proved"]) == (record.routing_key, True)
    assert f"→ routing key {record.routing_key}, of revision {record.revision}" in printed.stdout
    assert f"which only {record.model}@{record.version} computes" in " ".join(printed.stdout.split())
    assert refusal(run_lab(lab, "explain", "nobody-1")).startswith("lab: request 'nobody-1' is in none of the runs ")


@pytest.mark.parametrize(
    "mistake", [["--arrivals", "trace:no-such-file.csv"], ["--use-case", "Nope"], ["--context", "x=1"]]
)
def test_a_load_that_cannot_be_leaves_no_folder_and_latest_where_it_was(
    lab: Lab, run: Path, mistake: list[str]
) -> None:
    latest = run.parent / "latest"
    before = (latest.readlink(), sorted(run.parent.iterdir()))

    assert refusal(run_lab(lab, "load", *mistake), status=3)

    assert before == (latest.readlink(), sorted(run.parent.iterdir()))
