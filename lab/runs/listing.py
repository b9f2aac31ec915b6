"""A list of a lab's runs, from what each recorded when it ended; `lab check` judges a run again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab.errors import RunError
from lab.runs.folder import PLAN, TOGETHER, RunFolder, read_json


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run as it was judged when it ended.

    Attributes:
        run: path below the lab's runs, e.g. ``20260102T030405.000000Z``.
        claims: outcome by claim; empty if it was not judged.
        p50_ms: latency, ms; None if it was not judged. The next likewise.
    """

    run: str
    topology: str
    caller: str
    planned: int | None
    failed: int | None
    p50_ms: float | None
    p99_ms: float | None
    claims: Mapping[str, str]

    def to_document(self) -> dict[str, Any]:
        """As ``lab runs --json`` prints it."""
        return asdict(self)


def list_runs(runs: Path) -> list[ListedRun]:
    """The runs in a lab's folder of runs, newest first; of parallel runs each."""
    folders = sorted((each for each in _folders(runs) if not each.is_symlink() and each.is_dir()), reverse=True)
    return [run for folder in folders for run in _listed(folder, runs)]


def _folders(runs: Path) -> Iterator[Path]:
    yield from runs.iterdir() if runs.is_dir() else ()


def _listed(folder: Path, runs: Path) -> Iterator[ListedRun]:
    names = _read(folder / TOGETHER)
    for each in [folder / str(name) for name in names] if isinstance(names, list) else [folder]:
        plan = _read(each / PLAN)
        if isinstance(plan, dict):
            yield _run(str(each.relative_to(runs)), plan, _read(each / RunFolder.summary.name))


def _run(run: str, plan: Mapping[str, Any], summary: Any) -> ListedRun:
    found = summary if isinstance(summary, dict) else {}
    figures = {name: found.get(name) for name in ("planned", "failed", "p50_ms", "p99_ms")}
    claims = found.get("claims", {})
    topology, caller = str(plan.get("topology", "")), str(plan.get("caller", ""))
    return ListedRun(run, topology, caller, **figures, claims=claims if isinstance(claims, dict) else {})


def _read(path: Path) -> Any:
    """The content of a run's file; None if there is none that can be read, as of a run under way."""
    try:
        return read_json(path)
    except RunError:
        return None
