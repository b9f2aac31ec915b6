"""``python -m tests.plugins.bench.planted_slowdowns``: plants slowdowns in a copy of this commit.

``lab bench since HEAD`` of the copy has to call each planted figure slower, and no other. Exit status 1 if one escapes.
It takes a quarter of an hour; tests/measure/test_revisions.py plants into recorded measurements, in seconds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lab import CHECKOUT
from tests.tools import run_tool

CONTROL = "mesh-cpu"
"""A figure of the same visits in whose way nothing is planted."""


@dataclass(frozen=True, slots=True)
class Slowdown:
    """Code in front of a line of a file, and the figures that it makes worse."""

    file: str
    before: str
    code: str
    figures: tuple[str, ...]

    def planted(self, folder: Path) -> str:
        """The file's text with the code in it."""
        text = (folder / self.file).read_text()
        if text.count(self.before) != 1:
            sys.exit(f"{self.file}: {self.before.strip()!r} is there {text.count(self.before)} times, not once")
        indent = self.before[: len(self.before) - len(self.before.lstrip())]
        return text.replace(self.before, "".join(f"{indent}{line}\n" for line in self.code.splitlines()) + self.before)


PLANTED = (
    Slowdown(
        "services/gateway/forwarder.py",
        "        if request.quota is not None:\n            self._limiter.leave",
        "until = time.perf_counter() + 0.15e-3\nwhile time.perf_counter() < until:\n    pass",
        ("gateway-cpu", "gateway-added-p50", "gateway-per-core"),
    ),
    Slowdown(
        "services/gateway/__main__.py",
        "    add_plugins(arguments.plugin)\n    access_log",
        "ballast = bytearray(b'x') * 30_000_000\n__import__('time').sleep(2 + 0 * len(ballast))",
        ("memory-default", "up-default"),
    ),
)


def main() -> int:
    """Plants, compares, and says what was found."""
    parser = argparse.ArgumentParser(prog="make bench-since-planted", description=__doc__.partition("\n\n")[2])
    parser.add_argument("--rounds", type=int, default=6, help="rounds of old, new, old again [6]")
    rounds = parser.parse_args().rounds
    wanted = [name for each in PLANTED for name in each.figures]
    with tempfile.TemporaryDirectory(prefix="planted-") as temporary:
        copy = Path(temporary) / "lab"
        subprocess.run(("git", "clone", "--quiet", "--shared", CHECKOUT, copy), check=True)
        for each in PLANTED:
            (copy / each.file).write_text(each.planted(copy))
        subprocess.run(("make", "--silent", ".venv/ready"), cwd=copy, check=True)
        command = (".venv/bin/lab", "bench", "since", "HEAD", "--rounds", str(rounds))
        subprocess.run((*command, "--figures", ",".join((*wanted, CONTROL))), cwd=copy, check=False)
        [kept] = (copy / "runs" / "since").glob("*.json")
        verdicts = {name: each["verdict"] for name, each in json.loads(kept.read_text())["figures"].items()}
    escaped = [name for name in wanted if verdicts[name] != "slower"]
    false = [name for name in (CONTROL,) if verdicts[name] == "slower"]
    print(f"planted: {len(wanted)}; escaped: {', '.join(escaped) or 'none'}; not planted: {', '.join(false) or 'none'}")  # noqa: T201
    return 1 if escaped or false else 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
