from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from lab.errors import InputError
from lab.history import Record, SpoolWriter, values_of, write_parquet
from lab.ops import explain_request
from lab.ops.explain_request import find, story, whole_story
from lab.ops.inspect import LogLine
from lab.runs.folder import HISTORY, PLAN, SPOOL, RunFolder
from tests.checkers.builders import START_NS, make_record, two_versions

TV = make_record(device="tv", routing_key="rows.v2", version="v2", cluster="b")


def test_a_record_is_found_while_its_run_goes_on_and_afterwards(tmp_path: Path) -> None:
    (tmp_path / "over").mkdir()
    (tmp_path / "going-on").mkdir()
    write_parquet([make_record(number) for number in range(3)], tmp_path / "over" / HISTORY)
    with SpoolWriter(tmp_path / "going-on" / SPOOL) as spool:
        spool.append(values_of(make_record(7)))
        spool.flush()
        folders = [tmp_path / "over", tmp_path / "going-on"]

        with SpoolWriter((tmp_path / "going-on" / SPOOL).with_stem("history-2")) as of_another_driver:
            of_another_driver.append(values_of(make_record(8)))

        assert [
            (run.path.name, record.sequence) for run, record in (find(each, folders) for each in ("r2", "r7", "r8"))
        ] == [
            ("over", 2),
            ("going-on", 7),
            ("going-on", 8),
        ]
        with pytest.raises(InputError, match="'r9' is in none of the runs over, going-on;"):
            find("r9", folders)


class Counted(RunFolder):
    """Notes which runs' records and gathered evidence were read."""

    read: ClassVar[list[str]] = []

    def __getattribute__(self, name: str) -> Any:
        if name in ("columns", "spooled", "gathered", "gathered_by"):
            Counted.read.append(f"{object.__getattribute__(self, 'path').name} {name}")
        return object.__getattribute__(self, name)


@pytest.mark.parametrize("driver", ["", ".1", ".homepage"])
def test_only_the_run_whose_ids_begin_so_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
    for prefix in ("0b1c", "1f3a", "77aa", "77ab"):
        (tmp_path / prefix).mkdir()
        (tmp_path / prefix / PLAN).write_text(json.dumps({"id_prefix": prefix}))
        records = [replace(make_record(number), request_id=f"{prefix}{driver}-{number:08x}") for number in range(3)]
        write_parquet(records, tmp_path / prefix / HISTORY)
    Counted.read.clear()
    monkeypatch.setattr(explain_request, "RunFolder", Counted)

    told = whole_story(f"1f3a{driver}-00000002", sorted(tmp_path.iterdir()), lambda record: {"of": record.request_id})

    assert told == {"of": f"1f3a{driver}-00000002", "tree": None}
    assert {each.split()[0] for each in Counted.read} == {"1f3a"}
    assert Counted.read.count("1f3a columns") == 1


@pytest.mark.parametrize(
    ("record", "rule", "reasons"),
    [(TV, "tv", ["device is tv"]), (make_record(), "default", ["device is phone, not one of tv"])],
)
def test_the_rules_are_those_of_routes_explain(record: Record, rule: str, reasons: list[str]) -> None:
    told = story(record, two_versions(), [])["decision"]

    assert (told["rule"], [each["reason"] for each in told["rules"]]) == (rule, reasons)


def test_a_lease_is_for_what_the_rules_read() -> None:
    told = story(TV, two_versions(), [])["decision"]

    assert told["reads"] == {"device": "tv", "override": ""}


@pytest.mark.parametrize(
    ("record", "lines", "logging", "asked"),
    [
        (TV, [LogLine("homepage-resolver", "resolver", {"time": 1.0, "ms": 1.0, "status": "OK"})], ["resolver"], "yes"),
        (TV, [], ["resolver"], "no"),
        (TV, [], ["sidecar"], "unknown"),
        (replace(TV, topology="gateway"), [], ["resolver"], ""),
        (replace(TV, routing_key=""), [], ["resolver"], ""),
    ],
)
def test_a_resolver_that_logs_no_request_was_not_asked(
    record: Record, lines: list[LogLine], logging: list[str], asked: str
) -> None:
    assert story(record, two_versions(), lines, logging)["decision"]["asked"] == asked


def test_a_refusal_is_told_in_its_own_words() -> None:
    told = story(make_record(status="NOT_FOUND", use_case="Nothing"), two_versions(), [])["decision"]

    assert told["rules"] == []
    assert "Nothing" in told["refused"]


def test_a_request_that_was_not_decided_has_no_rules() -> None:
    told = story(make_record(status="UNAVAILABLE"), None, [])["decision"]

    assert "failed before anything was decided" in told["refused"]


def test_a_score_is_proved_only_by_the_version_that_gives_it() -> None:
    assert story(TV, two_versions(), [])["proof"]["proved"]
    assert not story(replace(TV, version="v1"), two_versions(), [])["proof"]["proved"]


def test_hops_begin_after_the_sending() -> None:
    began_s = START_NS / 1e9 + 0.01001
    line = LogLine("homepage-sidecar", "sidecar", {"time": began_s + 0.002, "ms": 2.0, "status": "OK"})

    [hop] = story(make_record(), two_versions(), [line])["hops"]

    assert hop["at_ms"] == pytest.approx(10, abs=0.1)
    assert (hop["unit"], hop["ms"], hop["status"]) == ("homepage-sidecar", 2.0, "OK")
