"""Above the tables a sentence says whose requests a slow replica answered, also of a single run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lab.report import read_run, read_runs
from lab.report.broken_replicas import reached
from lab.report.page import render
from lab.runs.events import Event
from tests.report.builders import DOCUMENT, START_NS, make_record, write_run


def test_a_slow_replica_is_named_with_the_callers_that_it_answered(tmp_path: Path) -> None:
    slow = Event(
        kind="slow",
        target="a-1",
        from_ns=START_NS - 1,
        until_ns=START_NS,
        detail="ms 100",
        past="slowed down",
        undone_by="heal slow",
    )
    mine = [make_record(each, latency_ms=100.0 if each % 2 else 1.0, cluster="a") for each in range(400)]
    spared = [make_record(each, latency_ms=1.0, cluster="b", replica="b-0") for each in range(400)]

    [one] = reached([read_run(write_run(tmp_path, mine, events=[slow]))])
    runs = read_runs(
        write_run(tmp_path, records, name=f"20231114T22132{number}.000Z", caller=caller, events=[slow])
        for number, (caller, records) in enumerate((("homepage", mine), ("search", spared)), 1)
    )
    [both] = reached(runs)

    hit = "While a-1 was slowed down (ms 100), it answered 200 of 400 requests of homepage (p50 100 ms, others 1.0 ms)"
    assert (one, both) == (f"{hit}.", f"{hit}; none of search.")
    page = render(runs)
    assert page.index("it answered 200 of 400") < page.index("<table")
    quiet = [make_record(each, cluster="a", replica="a-0") for each in range(400)]
    assert reached([read_run(write_run(tmp_path, quiet, name="20231114T221329.000Z", events=[slow]))]) == []


def test_callers_without_a_run_are_named_as_far_as_the_table_leads_them_there(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path))
    rows = {"callers": ["homepage", "search"], "default": "rows@v1"}
    table = {**DOCUMENT, "use_cases": {"Rows": rows, "Other": {"callers": ["payments"], "default": "other@v1"}}}

    assert replace(run, document=table).may_reach("a-1") == {"homepage", "search"}
    assert replace(run, document=table).may_reach("a") == {"homepage", "search"}
    assert replace(run, document=table).may_reach("b-0") == set()
