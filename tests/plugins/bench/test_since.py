"""Two checkouts compared: how the other one is made, driven from outside and cleaned, and what its figures mean."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer

from lab import CHECKOUT
from lab.errors import InputError, UnitError
from lab.plugins.bench.commands import since
from lab.plugins.bench.since import accepted, checkout
from lab.plugins.bench.since.accepted import Accepted, Decision, accept, keep
from lab.plugins.bench.since.checkout import AbsentError, Checkout, commit_of, opened
from lab.plugins.bench.since.figures import FIGURES, MEDIAN, Figure
from lab.plugins.bench.since.revisions import PLACES, Change
from lab.plugins.bench.since.rounds import Result, measure
from lab.plugins.bench.since.visits import default_lab, mini_lab
from lab.waiting import eventually
from tests.lab_command import run_lab
from tests.plugins.bench.planted_slowdowns import PLANTED, Slowdown

# A checkout whose commands say what is tested here; the second commit's does not build.
MAKEFILE = """\
.venv/ready:
\tmkdir -p .venv/bin && cp lab .venv/bin/lab && touch $@
"""
LAB = """\
#!/bin/sh
case "$*" in
  "load --help") echo "│ --streams <int> │" ;;
  *gone*) echo "lab: bench 'gone' is not known" >&2; exit 1 ;;
  *unknown-option*) echo "lab: No such option: --rate" >&2; exit 2 ;;
  *broken*) echo "first" >&2; echo "lab: the last line" >&2; exit 3 ;;
  *slow*) trap 'touch "$LAB_HOME/cleaned"; exit 130' INT; touch "$LAB_HOME/started"; while :; do sleep 0.1; done ;;
  *down*) echo "$@" >> down ;;
  *--json*) echo "{\\"home\\": \\"$LAB_HOME\\"}" ;;
esac
"""


@pytest.fixture(name="repository")
def repository_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of two commits, the first of which builds, in the place of this checkout."""
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.setattr(checkout, "CHECKOUT", folder)
    monkeypatch.setattr(checkout, "CACHE", folder / "runs" / "since")
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "somebody")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "somebody@example.com")
    checkout.git("init", "--quiet")
    (folder / "lab").write_text(LAB)
    (folder / "lab").chmod(0o755)
    (folder / ".gitignore").write_text("/runs/\n")
    for makefile in (MAKEFILE, ".venv/ready:\n\tmkdir -p .venv && echo 'no such package' >&2 && false\n"):
        (folder / "Makefile").write_text(makefile)
        checkout.git("add", ".")
        checkout.git("commit", "--quiet", "--message", "a commit")
    return folder


@pytest.fixture(name="old")
def old_fixture(repository: Path) -> Iterator[Checkout]:
    del repository
    with opened(commit_of("HEAD~1"), lambda _: None) as (old, _):
        old.home.mkdir()
        yield old


def test_a_checkout_is_made_once_and_cleaned_of_labs(repository: Path) -> None:
    said: list[str] = []
    for _ in range(2):
        with opened(commit_of("HEAD~1"), said.append) as (old, new):
            assert old.folder.is_relative_to(repository / "runs")
            assert new.folder == repository
            (old.home / ".lab" / "bench-123").mkdir(parents=True)
        assert not old.home.exists()
    assert (old.folder / "down").read_text() == "down --name bench-123\n" * 2
    assert len(said) == 1


def test_a_revision_that_does_not_build_leaves_nothing(repository: Path) -> None:
    with pytest.raises(InputError, match="does not build: "), opened(commit_of("HEAD"), lambda _: None):
        pass
    assert not [each for each in (repository / "runs" / "since").iterdir() if each.is_dir()]


def test_an_unknown_revision_is_named_and_a_shallow_clone_says_what_to_do(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"^nope: no such commit in [^;]*$"):
        commit_of("nope")
    checkout.git("clone", "--quiet", "--depth", "1", f"file://{repository}", str(tmp_path / "shallow"))
    monkeypatch.setattr(checkout, "CHECKOUT", tmp_path / "shallow")
    with pytest.raises(InputError, match="git fetch --unshallow"):
        commit_of("HEAD~1")


def test_commands_answer_for_the_checkout_that_they_belong_to(old: Checkout) -> None:
    assert old.lab("status", "--json").document == {"home": str(old.home)}
    assert old.known("load", "--streams=0", "--edge-every=0") == ["--streams=0"]
    with pytest.raises(UnitError, match="lab broken: exit status 3: lab: the last line"):
        old.lab("broken")
    for lacking in ("gone", "unknown-option"):
        with pytest.raises(AbsentError):
            old.lab("bench", lacking, statuses=(0, 1, 2))


def test_ctrl_c_lets_a_command_clean_up(old: Checkout) -> None:
    code = "import sys; from pathlib import Path; from lab.plugins.bench.since.checkout import Checkout; \
Checkout(*map(Path, sys.argv[1:]), '').lab('slow')"
    argv = (sys.executable, "-c", code, *map(str, (old.folder, old.command, old.home)))
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as caller:
        eventually("the command runs", (old.home / "started").exists, within=timedelta(seconds=30))
        os.kill(caller.pid, signal.SIGINT)
    assert (old.home / "cleaned").exists()


A = Checkout(Path("a"), Path("a"), Path("a"), "a" * 40)
B = replace(A, commit="b" * 40)


def figure(name: str, visit: Any, key: str = "value") -> Figure:
    return Figure(name, "ms", MEDIAN, visit, lambda seen: float(seen[key]))


def measured(*figures: Figure, rounds: int = 2, minutes: float = 60.0) -> Result:
    return measure(A, B, figures, rounds=rounds, minutes=minutes, machine={}, say=lambda _: None)


def test_figures_of_one_visit_share_its_run() -> None:
    visits: list[str] = []

    def visit(of: Checkout) -> dict[str, float]:
        visits.append(of.commit[0])
        return {"value": 1.0, "other": 2.0}

    result = measured(figure("one", visit), figure("two", visit, "other"))
    assert visits == ["a", "b", "a"] * 2
    assert result.rounds == {"one": [(1.0, 1.0, 1.0)] * 2, "two": [(2.0, 2.0, 2.0)] * 2}


def test_what_one_lacks_is_not_comparable_and_what_fails_is_a_gap() -> None:
    tried: list[str] = []

    def lacking(of: Checkout) -> dict[str, float]:
        tried.append(of.commit)
        if of is A:
            raise AbsentError("No such command")
        return {}

    def failing(of: Checkout) -> dict[str, float]:
        if of is B:
            raise UnitError("it died")
        return {"value": 1.0}

    figures = figure("no command", lacking), figure("no key", lambda _: {}), figure("dead", failing)
    result = measured(*figures, figure("zero", lambda _: {"value": 0.0}))
    assert {name: why.partition(":")[0] for name, why in result.absent.items()} == {
        "no command": "old",
        "no key": "old",
    }
    assert len(tried) == 1
    assert result.missing[0] == "round 1 of 2, dead, new: it died"
    assert sum("not a measurement above 0" in gap for gap in result.missing) == len(PLACES) - 1


def test_ctrl_c_keeps_what_was_measured_and_time_ends_rounds() -> None:
    def interrupted(of: Checkout) -> dict[str, float]:
        if of is B:
            raise KeyboardInterrupt
        return {"value": 1.0}

    result = measured(figure("one", lambda _: {"value": 1.0}), figure("two", interrupted))
    assert result.missing == ["interrupted"]
    assert {name: len(each) for name, each in result.rounds.items()} == {"one": 1, "two": 0}
    short = measured(figure("one", lambda _: {"value": 1.0}), rounds=9, minutes=0.0)
    assert len(short.rounds["one"]) == 1
    assert short.missing == ["rounds 2 to 9: not within 0 minutes"]


def result_of(*, mesh: float = 1.0, only: int | None = None, new: str = B.commit) -> Result:
    """A comparison of every figure, in which all but one are the same."""
    rounds: dict[str, list[tuple[float, ...]]] = {
        name: [(1.0, 1.0, 1.0), (1.01, 1.01, 1.01)] for name in list(FIGURES)[:only]
    }
    rounds["mesh-added-p50"] = [(1.0, mesh, 1.0), (1.01, 1.01 * mesh, 1.01)]
    return Result(A.commit, new, {}, rounds=rounds)


@pytest.mark.parametrize(("mesh", "status"), [(1.0, 0), (1.5, 1), (0.5, 0)])
def test_the_exit_status_says_whether_a_figure_is_slower(mesh: float, status: int) -> None:
    assert result_of(mesh=mesh).exit_status == status


def test_what_is_undecided_or_not_comparable_is_status_2() -> None:
    result = result_of()
    result.absent["call"] = "old: no such command"
    assert result.exit_status == 2
    assert result.verdict("call") is Change.NOT_COMPARABLE
    result = result_of()
    result.rounds["call"] = [(1.0, 1.0, 1.0)]
    assert result.exit_status == 2


def test_a_limit_takes_the_whole_interval() -> None:
    result = result_of()
    result.rounds["mesh-added-p50"] = [(1.0, new, 1.0) for new in (1.27, 1.30, 1.33)]
    assert result.slower(1.2) == ["mesh-added-p50"]
    assert result.slower(1.3) == []


def test_a_result_reads_itself_back(tmp_path: Path) -> None:
    result = result_of(mesh=1.2)
    result.rounds["call"] = [(1.0, 2.0, 1.0)]
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps(result.to_document(), allow_nan=False))
    assert json.dumps(Result.read(kept).to_document()) == kept.read_text()


@pytest.mark.parametrize("wrong", ['{"old": "a"}', "[]", "{"])
def test_another_document_is_no_comparison(tmp_path: Path, wrong: str) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text(wrong)
    with pytest.raises(InputError, match="not a comparison"):
        Result.read(kept)
    kept.write_text(json.dumps(Result("a", "b", {}).to_document() | {"rounds": {"call": [[0, 1, 1]]}}))
    with pytest.raises(InputError, match="not a comparison"):
        Result.read(kept)


@pytest.fixture(name="file")
def file_fixture(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    del repository
    monkeypatch.setattr(accepted, "git", lambda *_: f"{B.commit}\n")
    return tmp_path / "accepted.json"


def test_accepting_moves_the_commit(file: Path) -> None:
    accept(result_of(), None, file)
    assert Accepted.read(file) == Accepted(B.commit, [])


@pytest.mark.parametrize(
    ("result", "text", "why"),
    [
        (result_of(new=f"{B.commit}, changed"), "", "commit the changes first"),
        (result_of(only=3), "", "was not measured"),
        (result_of(mesh=1.2), "", "--decision FILE"),
        (result_of(mesh=1.2), f"other-figure is slower since {B.commit}", "does not name mesh-added-p50"),
        (result_of(mesh=1.2), "mesh-added-p50 is slower since ccccccc", "names no commit"),
    ],
    ids=["changed", "not all", "slower", "another figure", "another commit"],
)
def test_accepting_refuses(file: Path, result: Result, text: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        accept(result, Decision("0032.md", text) if text else None, file)
    assert not file.exists()


def test_a_decision_lets_a_slower_figure_be_accepted(file: Path) -> None:
    accept(result_of(mesh=1.2), Decision("0032.md", f"mesh-added-p50 pays for proof since {B.commit[:9]}."), file)
    assert Accepted.read(file).slower == [{"figure": "mesh-added-p50", "ratio": 1.2, "decision": "0032.md"}]


def test_the_history_keeps_figures_without_rounds(tmp_path: Path) -> None:
    for _ in range(2):
        keep(result_of(mesh=1.2), tmp_path / "history")
    [line, _] = map(json.loads, (tmp_path / "history").read_text().splitlines())
    assert line["figures"]["mesh-added-p50"]["verdict"] == "slower"
    assert "rounds" not in line


def test_the_accepted_commit_is_in_the_history() -> None:
    assert checkout.is_shallow() or commit_of(Accepted.read().commit)


@pytest.mark.parametrize("slowdown", PLANTED, ids=lambda each: each.file)
def test_planted_slowdowns_fit_the_code(slowdown: Slowdown) -> None:
    compile(slowdown.planted(CHECKOUT), slowdown.file, "exec")
    assert set(slowdown.figures) <= set(FIGURES)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nope",), "lab: nope: no such commit in"),
        (("HEAD", "--figures", "nope"), "lab: --figures: 'nope' is not known; there are mesh-added-p50"),
        (("--from", "/nope"), "lab: /nope: cannot be read: No such file"),
    ],
)
def test_a_mistake_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    done = run_lab(None, "bench", "since", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("ci", "shallow", "limit", "status"),
    [("true", True, 1.3, 0), ("true", False, 1.3, 1), ("", False, 1.3, 0), ("", True, None, 2)],
    ids=["shallow clone in CI", "full history in CI", "at home", "without a limit"],
)
def test_without_the_accepted_commit_only_ci_with_its_history_fails(
    monkeypatch: pytest.MonkeyPatch, ci: str, *, shallow: bool, limit: float | None, status: int
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(since, "commit_of", lambda _: (_ for _ in ()).throw(InputError("no such commit")))
    monkeypatch.setattr(since, "is_shallow", lambda: shallow)
    with pytest.raises(typer.Exit) as ended:
        since.since(limit=limit)
    assert ended.value.exit_code == status


@pytest.mark.parametrize(
    ("mesh", "options", "status"), [(1.2, (), 1), (1.2, ("--limit", "1.3"), 0), (1.4, ("--limit", "1.3"), 1)]
)
def test_a_kept_comparison_is_shown_again(tmp_path: Path, mesh: float, options: tuple[str, ...], status: int) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps(result_of(mesh=mesh).to_document()))
    done = run_lab(None, "bench", "since", "--from", str(kept), *options)
    assert done.returncode == status, done.stderr
    assert "1 slower" in done.stdout.splitlines()[-1]


def test_a_comparison_in_which_nothing_was_measured_does_not_pass(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps(Result("a", "b", {}, rounds={"call": []}).to_document()))
    with pytest.raises(typer.Exit) as ended:
        since.since(of=kept, limit=1.3)
    assert ended.value.exit_code == 2


@pytest.mark.parametrize("visit", [mini_lab, default_lab])
def test_a_visit_sees_every_figure_that_picks_from_it(visit: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    here = Checkout(CHECKOUT, Path(sys.executable).parent / "lab", tmp_path_factory.mktemp("home"), "")
    seen = visit(here)
    assert all(each.pick(seen) > 0 for each in FIGURES.values() if each.visit is visit and "added" not in each.name)
    assert not list((here.home / ".lab").glob("*/"))
