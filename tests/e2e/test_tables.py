"""Every command that prints a table shows it whole in windows of 80 and of 130 columns."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from lab import CHECKOUT
from lab.cli import COMMANDS, app, commands, roll, trace
from lab.cli.output import Table, console
from lab.client.traces import Span
from lab.history import read_parquet
from lab.lab import Lab
from lab.load.engines import ENGINES
from lab.ops.roll.conditions import Evidence, Figures, parse_conditions
from lab.ops.roll.executor import Outcome, RollResult, StepResult
from lab.plugins.audit_bench.audit import Audit, Delay, Load
from lab.plugins.audit_bench.command import _show as show_audit
from lab.plugins.bench.commands.bench import _show as show_bench
from lab.plugins.bench.commands.capacity import _show as show_capacity
from lab.plugins.bench.commands.since import _show as show_since
from lab.plugins.bench.since.rounds import Result
from lab.plugins.conform import Result as ConformResult
from lab.plugins.conform import Verdict
from lab.plugins.conform import command as conform
from lab.runs import LoadOptions
from tests.cli.test_tables import missing
from tests.report.test_bench_page import RESULT

RUNS = ("{a}", "{b}")
BY_COMMAND = (
    ("status", "--memory"),
    ("endpoints",),
    ("nodes",),
    ("callers", "list"),
    ("audit",),
    ("routes", "history"),
    ("routes", "publish", str(CHECKOUT / "routes.yaml")),
    ("pki", "show"),
    ("fault", "list"),
    ("load", "--rate", "20", "--duration", "1", "--topology", "gateway"),
    ("check", "{a}"),
    ("compare", *RUNS),
    ("runs",),
    ("logs", "{request}"),
    ("explain", "{sent}"),
    ("page", "--run", "{pages}"),
)
AUDIT = Audit(
    tool="guidellm",
    benchmark="constant 12.5/s",
    requests=12_345,
    load=Load.OPEN,
    load_reason="config.strategy.type_ is constant",
    delay=Delay.LEFT_OUT,
    delay_reason="request_latency begins at request_start",
    published_p99_ms=12_345.6,
    published_as="metrics.request_latency.successful p99",
    scheduled_p99_ms=98_765.4,
    scheduled_reason="targeted_start to request_end",
    delay_p99_ms=86_420.0,
)
CONFORMANCE = ConformResult(
    feature="header-conditions",
    claim="a route with several headers matches only requests that have them all",
    upstream="Gateway API GRPCRouteHeaderMatching; psm-interop url_map/header_matching_test",
    verdict=Verdict.FAIL,
    reason="x-conform-region: eu leads to model b, but got an answer by model a; all headers must match",
)
SPAN = Span(
    trace_id="1" * 32,
    span_id="1" * 16,
    parent_id="",
    service="homepage",
    unit="homepage",
    name="lab.resolver.v1.Resolver/Resolve",
    kind="client",
    start_ns=1,
    ms=1234.56,
    error=True,
    attributes={"rpc.response.status_code": "DEADLINE_EXCEEDED"},
)
BY_RESULT = ("audit-bench", "bench", "bench since", "capacity", "conform", "roll", "trace")
"""Commands whose tables are printed here from a result, which takes minutes or another lab."""


@pytest.fixture(scope="module")
def runs(lab: Lab) -> tuple[str, str]:
    options = LoadOptions(topology="gateway", caller="homepage", rate=20, duration_s=1)
    return str(lab.load(options).folder), str(lab.load(options).folder)


@pytest.fixture(scope="module")
def pages(lab: Lab) -> str:
    engine = ENGINES["pages"].plan(page="homepage")
    options = LoadOptions(topology="gateway", caller="homepage", rate=20, duration_s=1, engine=engine)
    return str(lab.load_parallel(lab.spread(options)).folder)


@pytest.fixture(scope="module")
def names(lab: Lab, runs: tuple[str, str], pages: str) -> Iterator[dict[str, str]]:
    """What commands are given to show, while there is a fault for them to list."""
    with lab.faults.injected("slow", "ml-cluster-1", level="light"):
        request = lab.call("ContinueWatchingRanking", topology="gateway", caller="homepage").request_id
        sent = read_parquet(Path(runs[0]) / "history.parquet")[0].request_id
        yield {"a": runs[0], "b": runs[1], "request": request, "sent": sent, "pages": pages}


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> list[Table]:
    """The tables that have been printed."""
    found: list[Table] = []
    render = Table.__rich_console__

    def recorded(of: Table, *given: object) -> object:
        found.append(of)
        return render(of, *given)  # type: ignore[arg-type] # passed on

    monkeypatch.setattr(Table, "__rich_console__", recorded)
    return found


def module_of(command: str) -> str:
    """The module that defines a command."""
    entry = commands()[command]
    return f"lab.cli.{COMMANDS[command]}" if entry is None else entry.module


def test_each_command_that_has_tables_is_here() -> None:
    having = {
        name
        for name in commands()
        if {"table", "result_table", "finish"} & set(vars(importlib.import_module(module_of(name))))
    }
    modules = {module_of(name) for name in (*(command[0] for command in BY_COMMAND), *BY_RESULT)}

    assert {module_of(name) for name in having} == modules


@pytest.mark.parametrize("width", [80, 130])
@pytest.mark.parametrize("command", BY_COMMAND, ids=" ".join)
def test_a_window_shows_tables_whole(
    command: tuple[str, ...],
    width: int,
    *,
    lab: Lab,
    names: dict[str, str],
    printed: list[Table],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LAB_NAME", lab.name)
    monkeypatch.setenv("LAB_HOME", str(lab.folder.parent.parent))
    monkeypatch.setattr(console, "_width", width)
    with suppress(typer.Exit):
        app([part.format(**names) for part in command], standalone_mode=False)

    output = capsys.readouterr().out
    assert printed
    assert {part for each in printed for part in missing(each, output)} == set()
    assert [line for line in output.splitlines() if len(line.rstrip()) > width and "/" not in line] == []


@pytest.mark.parametrize("width", [80, 130])
def test_tables_of_results_are_whole(
    width: int, printed: list[Table], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_width", width)
    show_audit([AUDIT])
    show_bench(RESULT)
    show_since(Result("a" * 40, "b" * 40, {}, rounds={"move-loaded-p99": [(90.0, 91.5, 90.5), (91.0, 92.5, 90.0)]}))
    show_capacity(RESULT.tables, [])
    conform._show("127.0.0.1:8080", [CONFORMANCE])
    trace._show([SPAN, replace(SPAN, span_id="2" * 16, parent_id=SPAN.span_id, unit="homepage-resolver")])
    figures = Figures(1200, 3, [1.5, 22.75])
    evidence = Evidence(figures, figures)
    step = StepResult(
        percent=10,
        revision=1234,
        share=0.1,
        evidence=evidence,
        judgements=tuple(each.judge(evidence) for each in parse_conditions("error-rate>1%")),
    )
    roll._finish(
        RollResult(
            model="cw-ranker", to="v2", outcome=Outcome.COMPLETED, reason="", revision=7, steps=(step,), left_alone=()
        )
    )

    output = capsys.readouterr().out
    assert len(printed) == 7
    assert {part for each in printed for part in missing(each, output)} == set()
