"""Which kept figures are older than the code that they measure."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from inspect import getfile
from pathlib import Path
from typing import Any

from docs.site.links import CHECKOUT
from lab.plugins.bench.harness.bench import BENCHES
from lab.runs.version import CHANGED

# What a bench starts as processes, and so does not import.
_STARTED = ("services", "models", "envoy")
_COMMIT = re.compile(r"\(([0-9a-f]{7,40})")


def commit_of(ran: Mapping[str, Any]) -> str:
    """Returns the commit that a run measured, empty if it is not known."""
    found = _COMMIT.search(ran["machine"].get("lab", ""))
    return found[1] if found else ""


def is_changed(ran: Mapping[str, Any]) -> bool:
    """Returns whether a run measured a tree with uncommitted changes."""
    return bool(ran["machine"].get("lab", "").endswith(CHANGED))


def code_of(bench: str) -> list[str]:
    """Returns what a bench measures: its module with all that it imports of the project, and what it starts."""
    seen: set[Path] = set()
    open_ = [Path(getfile(BENCHES[bench].run)) if bench in BENCHES else CHECKOUT / "docs" / "site" / f"{bench}.py"]
    while open_:
        path = open_.pop()
        if path not in seen:
            seen.add(path)
            open_ += _imported(path)
    files = (path.relative_to(CHECKOUT).as_posix() for path in seen)
    return [*_STARTED, *sorted(each for each in files if not each.startswith(_STARTED))]


@cache
def _imported(path: Path) -> tuple[Path, ...]:
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
        for name in names:
            base = CHECKOUT.joinpath(*name.split("."))
            yield from (each for each in (base.with_suffix(".py"), base / "__init__.py") if each.exists())


def outdated(kept: Mapping[str, Any]) -> dict[str, str]:
    """Returns why a bench's figures are old, by bench, for those that are: how many commits changed its code since."""
    found = {}
    for bench, measured in kept.items():
        commit = commit_of(measured["ran"])
        command = ("git", "rev-list", "--count", f"{commit or 'unknown'}..HEAD", "--", *code_of(bench))
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
        if done.returncode:
            found[bench] = f"measured at {commit or 'no commit'}, which this checkout does not know"
        elif count := int(done.stdout):
            found[bench] = f"measured at {commit}; {count} commits have changed its code since"
    return found
