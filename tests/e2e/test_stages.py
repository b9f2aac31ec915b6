"""A revision for some callers first, under load: at resolvers, gateways and gRPC clients that route by themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Event

from lab.checkers import Outcome
from lab.lab import Lab
from lab.load.progress import Progress
from lab.runs import LoadOptions
from lab.runs.folder import RunFolder
from lab.runtime.cancellation import CancelToken
from lab.waiting import eventually
from tests.lab_command import json_of, refusal, run_lab

TOPOLOGIES = ("mesh", "gateway", "proxyless")
STAGED, OTHER = "homepage", "recommendations"
USE_CASE = "ContinueWatchingRanking"
RATE, PHASE = 30.0, 30
"""Requests: each second of each run, and of each run by each state of the rules."""
SOON = timedelta(seconds=60)


class Progresses:
    """How many requests of each run are done."""

    def __init__(self) -> None:
        self._done: dict[str, int] = {}
        self._changed = Event()

    def __call__(self, seen: Mapping[str, Progress]) -> None:
        self._done = {name: each.done for name, each in seen.items()}

    def wait(self, more: int) -> None:
        """Returns once each run has done so many more."""
        wanted = {name: done + more for name, done in self._done.items()} or {"": more}
        runs = len(TOPOLOGIES) * 2

        def all_done() -> bool:
            return len(self._done) == runs and all(done >= wanted.get(name, more) for name, done in self._done.items())

        eventually(f"{more} more requests of each of {runs} runs", all_done, within=SOON)


def test_a_revision_goes_to_a_set_of_callers_first_and_back_and_nobody_is_misrouted(
    lab: Lab, routes: Path, tmp_path: Path
) -> None:
    before = lab.routes.show().revision
    text = routes.read_text()
    assert text.count("default: cw-ranker@v1") == 1
    (new := tmp_path / "new.yaml").write_text(text.replace("default: cw-ranker@v1", "default: cw-ranker@v2"))
    (back := tmp_path / "back.yaml").write_text(text)
    cancel_token, done = CancelToken(), Progresses()
    options = [
        LoadOptions(topology=each, caller=caller, use_cases=(USE_CASE,), rate=RATE, duration_s=300.0)
        for each in TOPOLOGIES
        for caller in (STAGED, OTHER)
    ]
    with ThreadPoolExecutor(max_workers=1) as pool:
        running = pool.submit(lab.load_parallel, options, progress=done, cancel_token=cancel_token)
        try:
            done.wait(PHASE)
            staged = lab.routes.publish(new, callers=[STAGED])
            done.wait(PHASE)
            promoted = lab.routes.publish(new)
            done.wait(PHASE)
            again = lab.routes.publish(back, callers=[STAGED])
            done.wait(PHASE)
            rolled_back = lab.routes.rollback()
            done.wait(PHASE)
        finally:
            cancel_token.cancel()
        result = running.result()

    assert (staged, promoted, again, rolled_back) == tuple(before + each for each in (1, 2, 3, 4))
    assert len(result.runs) == len(options)
    for run in result.runs:
        found = {each.checker: each for each in run.verdicts}
        for checker in ("routing", "staleness", "convergence"):
            assert found[checker].outcome is Outcome.VALID, (run.folder.name, found[checker])
        assert run.wrong == 0
        by_revision = Counter(record.revision for record in RunFolder(run.folder).history if record.status == "OK")
        of_stages = by_revision[staged] + by_revision[again]
        if run.folder.name.endswith(STAGED):
            assert min(by_revision[staged], by_revision[again]) >= PHASE // 2, by_revision
        else:
            assert of_stages == 0, by_revision
            assert by_revision[promoted] >= PHASE // 2, by_revision


def test_the_commands_stage_show_and_roll_back(lab: Lab, routes: Path, tmp_path: Path) -> None:
    before = lab.routes.show().revision
    file = tmp_path / "new.yaml"
    file.write_text(routes.read_text().replace("default: cw-ranker@v1", "default: cw-ranker@v2"))

    published = json_of(run_lab(lab, "routes", "publish", str(file), "--callers", f"{STAGED},{OTHER}", "--json"))
    assert (published["revision"], published["callers"]) == (before + 1, [STAGED, OTHER])
    told = {each["node"] for each in published["nodes"] if each["role"] == "resolver"}
    assert told == {f"{STAGED}-resolver", f"{OTHER}-resolver"}
    status = run_lab(lab, "status")
    assert f"revision {before}, and {before + 1} staged for {STAGED}, {OTHER}" in status.stdout
    assert json_of(run_lab(lab, "status", "--json"))["staged"] == {"revision": before + 1, "callers": [STAGED, OTHER]}
    last = json_of(run_lab(lab, "routes", "history", "--json"))[-1]
    assert (last["callers"], last["in_force"]) == ([STAGED, OTHER], True)
    compared = run_lab(lab, "routes", "diff", str(before), str(before + 1)).stdout
    assert f"+++ revision {before + 1} for {STAGED}, {OTHER}" in compared
    context = {"user_id": "u1"}
    assert lab.routes.explain(USE_CASE, {**context, "caller": STAGED}).choice.version == "v2"
    assert lab.routes.explain("SearchRanking", {**context, "caller": "search"}).choice.revision == before
    assert f"new.yaml for {STAGED}, {OTHER};" in run_lab(lab, "audit", "--json").stdout
    (one := tmp_path / "one.yaml").write_text("{callers: [playback], api: ranking.v1, default: up-next@v1}")
    assert "publish it to all, or roll it back" in refusal(run_lab(lab, "routes", "set", "UpNext", str(one)))

    assert run_lab(lab, "routes", "rollback").returncode == 0
    assert json_of(run_lab(lab, "status", "--json"))["staged"] is None
    assert "no revision is staged" in refusal(run_lab(lab, "routes", "rollback"))
    assert "--callers names no caller" in refusal(run_lab(lab, "routes", "publish", str(file), "--callers", ","))
