"""Pages quote what was measured, and a figure that has moved is named."""

import copy
import dataclasses
import json
import subprocess
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from docs.site import blocks, figures, measuring, proxies, travels
from docs.site.age import code_of, outdated
from docs.site.figures import changes, quoted_benches, read, say, texts
from docs.site.measuring import MORE_S, STEPS, Measured, failing, figures_of, measure, more_rounds
from lab import CHECKOUT
from lab.errors import InputError
from lab.measure.compare import Interval
from lab.plugins.bench.harness.result import BenchResult, Claim, Ran, ResultTable
from lab.plugins.bench.harness.topology_rounds import LOAD_POINTS
from lab.plugins.capacity.costs import TITLE

A_FIGURE = {
    "text": "mesh / direct, p50",
    "estimate": 1.5,
    "low": 1.4,
    "high": 1.6,
    "at_least": None,
    "at_most": 2.0,
    "state": "holds",
    "doubts": [],
}
MACHINE = {"runtime": "process", "cpus": "2", "memory": "4 GiB", "kernel": "6"}
GROUND = "runtime process, cpus 2, memory 4 GiB, kernel 6"
RAN = {"started": "2026-01-02T03:04:05+00:00", "took_s": 12.0, "rounds": 10, "machine": MACHINE}
KEPT = {"topologies": {"ran": RAN, "figures": {"mesh-direct-p50": A_FIGURE}, "tables": []}}

ADDED = [
    ("direct", 1.0, proxies.LOAD_POINT),
    ("gateway-nginx", 2.5, proxies.LOAD_POINT),
    ("gateway-nginx", 9.0, "4 MB, 10 rps"),
]


def moved_to(estimate: float) -> dict[str, Any]:
    kept: dict[str, Any] = copy.deepcopy(KEPT)
    kept["topologies"]["figures"]["mesh-direct-p50"]["estimate"] = estimate
    return kept


@pytest.mark.parametrize(("estimate", "left"), [(1.5, False), (1.4, False), (1.6, False), (1.39, True), (1.61, True)])
def test_a_figure_has_left_if_it_lies_outside_of_the_interval_that_was_stated(estimate: float, *, left: bool) -> None:
    (change,) = changes(KEPT, moved_to(estimate))

    assert ("topologies.mesh-direct-p50", left) == (change.name, change.left)


def test_a_figure_that_is_new_has_not_left() -> None:
    (change,) = changes({}, KEPT)

    assert (change.before, change.left) == ("", False)


@pytest.mark.parametrize(
    ("again", "said"),
    [
        ({"command": "lab bench topologies --rounds 14"}, ""),
        (
            {"machine": {**MACHINE, "cpus": "4"}},
            f"measured on another machine: {GROUND} before, {GROUND.replace('cpus 2', 'cpus 4')} now\n",
        ),
    ],
)
def test_another_machine_is_named_and_another_command_is_none(
    again: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    after = {"topologies": {**KEPT["topologies"], "ran": {**RAN, **again}}}
    elsewhere = {"aa": {**KEPT["topologies"], "ran": {**RAN, "machine": {**MACHINE, "kernel": "5"}}}}

    say([], {**KEPT, **elsewhere}, after)

    assert capsys.readouterr().out.removesuffix("0 figures; 0 left their stated interval, 0 are in doubt\n") == said


def test_a_figure_is_quoted_with_its_interval_and_its_run() -> None:
    quoted = texts(KEPT)

    assert quoted["topologies.mesh-direct-p50"] == "1.500 [1.400, 1.600]"
    block = quoted["figures.topologies"]
    assert "| mesh / direct, p50 | 1.500 [1.400, 1.600] | ≤ 2: holds |" in block
    assert f"10 rounds in 12 s, begun 2026-01-02 03:04:05 UTC; {GROUND}" in block


def test_a_benchs_figures_are_kept_as_pages_quote_them() -> None:
    figure = Interval(estimate=3.25, low=3.0, high=3.5, confidence=0.95, rounds=10)
    result = BenchResult(
        name="encodings",
        unit="as named",
        samples={"REST": [3.25], "gRPC": [1.0]},
        claims=[Claim(text="REST / gRPC, bytes, talk", figure=figure, at_least=1.0, doubts=("the driver was late",))],
        notes=[],
        tables=[ResultTable(title="bytes", columns=("arm", "sent"), rows=[("REST", 68.0)], numbers=("sent",))],
        ran=Ran(started="2026-01-02T03:04:05+00:00", took_s=1.0, rounds=10, machine=MACHINE),
    )

    kept = {"encodings": figures_of(json.loads(json.dumps(result.to_document())))}
    quoted = texts(kept)

    assert quoted["encodings.rest-grpc-bytes-talk"] == "3.250 [3.000, 3.500] (in doubt)"
    table = "| arm | sent |\n|---|---:|\n| REST | 68.000 |"
    assert table not in quoted["figures.encodings"]
    assert table in quoted["figures.encodings.bytes"]
    assert table in figures.tables_page(kept)


def test_what_a_proxy_adds_is_read_from_two_benches() -> None:
    rounds = {f"{path}, {point}": [value] * 6 for path, value, point in ADDED}
    costs = ResultTable(TITLE, ("topology", "caller", "sum"), [("direct", 1.0, 2.0), ("gateway-nginx", 1.5, 3.25)])
    bench = json.loads(json.dumps({"rounds": rounds, "tables": [dataclasses.asdict(costs)]}))

    assert proxies.added_ms(bench, "gateway-nginx") == "1.500 [1.500, 1.500]"
    assert proxies.added_cpu_s(bench, "gateway-nginx") == "1.25"


def test_proxies_are_compared_at_a_load_point_that_is_measured() -> None:
    assert proxies.LOAD_POINT in {str(each) for each in LOAD_POINTS}


def test_text_is_written_between_the_marks_only(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("about <!-- figure: a.b -->?<!-- end --> ms\n\n<!-- block: c -->\nold\n<!-- end -->\nrest\n")

    assert blocks.write(page, {"a.b": "2 [1, 3]", "c": "new"})

    text = "about <!-- figure: a.b -->2 [1, 3]<!-- end --> ms\n\n<!-- block: c -->\nnew\n<!-- end -->\nrest\n"
    assert text == page.read_text()
    assert not blocks.write(page, {"a.b": "2 [1, 3]", "c": "new"})
    with pytest.raises(InputError):
        blocks.write(page, {"c": "<!-- end -->"})


def test_pages_quote_the_kept_figures() -> None:
    known = texts(read())
    for page in blocks.pages():
        for name, text in blocks.marked(page, "block", "figure").items():
            if not name.startswith(("travels.", "answers")):  # other tests hold those
                assert known.get(name) == text, f"{page.name}: {name}: `make figures ARGS=--quote` writes it anew"


def test_the_page_of_tables_has_the_kept_figures() -> None:
    assert figures.TABLES.read_text() == figures.tables_page(read()), "`make figures ARGS=--quote` writes it anew"


def test_benches_are_those_of_which_a_page_quotes_a_figure_or_has_the_block() -> None:
    names = {name.partition(".")[2] for page in blocks.pages() for name in blocks.marked(page, "block")}
    assert {"capacity", "decomposition", "encodings", "topologies"} <= set(quoted_benches()) <= names


def test_every_figure_that_a_goal_stands_on_is_published() -> None:
    goals = {"blast-radius", "convergence", "driver", "gateway-throughput", "large-table"}
    assert goals <= set(quoted_benches())
    assert any("figures.scale" in blocks.marked(page, "block") for page in blocks.pages())


def test_a_figure_of_a_tree_with_uncommitted_changes_says_so() -> None:
    def ran_at(lab: str) -> str:
        ran = {**RAN, "machine": {**MACHINE, "lab": lab}}
        return texts({"topologies": {**KEPT["topologies"], "ran": ran}})["figures.topologies"]

    assert "commit 1a2b3c4d5e6f with uncommitted changes*" in ran_at("1.2.0 (1a2b3c4d5e6f, changed)")
    assert "commit 1a2b3c4d5e6f*" in ran_at("1.2.0 (1a2b3c4d5e6f)")


def an_undecided(**changes: Any) -> dict[str, Any]:
    return {**A_FIGURE, "high": 2.5, "state": "undecided", "rounds_needed": 25, **changes}


def test_an_undecided_figure_is_shown_with_the_rounds_that_it_needs() -> None:
    block = texts({"topologies": {**KEPT["topologies"], "figures": {"a": an_undecided(rounds_needed=1_234)}}})

    assert "≤ 2: undecided; about 1,200 rounds would decide |" in block["figures.topologies"]


@pytest.mark.parametrize(
    ("bench", "rounds", "kept", "more"),
    [
        ("topologies", 14, [A_FIGURE], 0),
        ("topologies", 14, [A_FIGURE, an_undecided()], 30),
        ("topologies", 14, [an_undecided(rounds_needed=31)], 60),
        ("topologies", 14, [an_undecided(rounds_needed=5_000)], 60),
        ("topologies", 14, [an_undecided(rounds_needed=None, doubts=["the driver was late"])], 30),
        ("topologies", 30, [an_undecided()], 60),
        ("topologies", 60, [an_undecided(rounds_needed=5_000)], 0),
        ("topologies", 14, [{**A_FIGURE, "state": "does not hold"}], 0),
        ("convergence", 14, [an_undecided()], 0),  # it takes 200 samples however few rounds
    ],
)
def test_an_undecided_bench_gets_more_rounds_up_to_a_bound(
    bench: str, rounds: int, kept: list[dict[str, Any]], more: int
) -> None:
    found = {"ran": {**RAN, "rounds": rounds}, "figures": {str(n): each for n, each in enumerate(kept)}}

    assert more_rounds(bench, found) == more


class Lab:
    """The lab's command line: its benches stay undecided until a number of rounds, each of which takes a while."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, decided_at: int, *, each_s: float = 1.0) -> None:
        self.commands: list[str] = []
        self._decided_at, self._each_s = decided_at, each_s
        monkeypatch.setattr(measuring, "lab_json", self.run)

    def run(self, command: str) -> dict[str, Any]:
        self.commands.append(command)
        words = command.split()
        names = list(takewhile(lambda word: not word.startswith("--"), words[2:]))
        rounds = words[words.index("--rounds") + 1]
        claims: list[dict[str, Any]] = []
        if int(rounds) < self._decided_at:
            figure = dict.fromkeys(("estimate", "low", "high"), 1.0)
            bounds = {"at_least": None, "at_most": 1.0, "rounds_needed": self._decided_at}
            claims = [{"text": "a claim", "figure": figure, **bounds, "state": "undecided", "doubts": []}]
        ran = {**RAN, "rounds": int(rounds), "took_s": self._each_s * int(rounds)}
        return {
            "run_dir": "runs",
            "benches": [{"name": name, "ran": dict(ran), "claims": claims, "tables": []} for name in names],
        }


@pytest.mark.parametrize(("decided_at", "steps"), [(10, [14]), (20, [14, 30]), (50, [14, 60]), (9_000, [14, 60])])
def test_benches_are_measured_until_they_are_decided(
    monkeypatch: pytest.MonkeyPatch, decided_at: int, steps: list[int]
) -> None:
    lab = Lab(monkeypatch, decided_at)

    found = measure(["topologies"], None, lambda _: None)

    assert lab.commands == [f"lab bench topologies --rounds {each} --json" for each in steps]
    assert found.kept["topologies"]["ran"]["rounds"] == steps[-1]


def test_each_bench_has_its_own_number_of_rounds_unless_one_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(monkeypatch, 0)

    measure(["blast-radius", "driver", "topologies"], None, lambda _: None)
    measure(["blast-radius", "driver", "topologies"], 5, lambda _: None)

    measure(["pickers"], None, lambda _: None)

    assert lab.commands == [
        "lab bench blast-radius --rounds 3 --json",
        "lab bench driver topologies --rounds 14 --json",
        "lab bench blast-radius driver topologies --rounds 5 --json",
        "lab bench pickers --shares 0.1,0.5,0.9 --loads 50,90,130 --ages 50,1000 --seconds 4 --rounds 5 --json",
    ]


def test_a_given_number_of_rounds_is_not_raised_and_all_that_is_more_has_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lab, said = Lab(monkeypatch, 9_000, each_s=MORE_S / STEPS[-1]), list[str]()

    measure(["driver"], 5, said.append)
    measure(["driver", "topologies"], None, said.append)

    assert lab.commands[1:] == ["lab bench driver topologies --rounds 14 --json", "lab bench driver --rounds 60 --json"]
    assert said[-1].startswith("topologies: undecided; 60 rounds would take 3600 s, of which 0 s are left")


def test_a_bench_that_measured_nothing_is_named_and_keeps_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    unmeasured = {"name": "driver", "ran": None, "missing": ["no model answered"], "claims": [], "tables": []}
    monkeypatch.setattr(measuring, "lab_json", lambda _: {"run_dir": "runs", "benches": [unmeasured]})

    found = measure(["driver"], None, lambda _: None)

    assert (found.kept, found.problems) == ({}, ["driver: no model answered"])


def test_a_claim_that_does_not_hold_fails_the_command_and_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    missed = {**A_FIGURE, "estimate": 2.25, "low": 2.125, "high": 2.5, "state": "does not hold"}
    kept = {"topologies": {**KEPT["topologies"], "figures": {"a": missed, "b": A_FIGURE, "c": an_undecided()}}}
    monkeypatch.setattr(figures, "measure", lambda *_: Measured(kept=kept, problems=["driver: no model answered"]))
    monkeypatch.setattr(figures, "FIGURES", tmp_path / "figures.json")
    monkeypatch.setattr(figures, "PICTURES", tmp_path)
    monkeypatch.setattr(figures, "put_into_pages", lambda _: [])
    monkeypatch.setattr(travels, "main", lambda: None)
    monkeypatch.setattr("sys.argv", ["figures", "--only", "topologies"])

    with pytest.raises(SystemExit) as ended:
        figures.main()

    line = "topologies: mesh / direct, p50: 2.25 [2.125, 2.5], ≤ 2: does not hold"
    assert ended.value.code == f"make figures: driver: no model answered\nmake figures: {line}"
    assert failing(kept) == [line]
    assert json.loads((tmp_path / "figures.json").read_text())["topologies"] == kept["topologies"]


def test_the_code_of_a_bench_is_its_module_and_all_that_it_uses() -> None:
    code = code_of("encodings")
    assert {"services", "lab/plugins/bench/suites/encodings.py", "lab/transport/channels.py"} <= set(code)
    assert "lab/plugins/bench/suites/topologies.py" not in code
    assert {"lab/plugins/bench/scale/changes.py", "lab/plugins/bench/scale/goals.py"} <= set(code_of("scale"))


def test_figures_are_old_if_their_code_has_changed_or_their_commit_is_unknown() -> None:
    def measured_at(lab: str) -> dict[str, Any]:
        return {"encodings": {"ran": {"machine": {"lab": lab}}}}

    first = subprocess.run(
        ("git", "rev-list", "--max-parents=0", "HEAD"), cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout.split()[0]
    assert "commits have changed its code since" in outdated(measured_at(f"1.0.0 ({first})"))["encodings"]
    assert "does not know" in outdated(measured_at("1.0.0 (0000000)"))["encodings"]
    assert "no commit" in outdated(measured_at("1.0.0"))["encodings"]
