"""``python -m tests.stresses [TEXT] --times N``: puts labs without a bug under stress, and judges their runs.

Correctness must be *valid*. Only a checker whose evidence a stress destroys, as it says beforehand, may be *unknown*.
No claim may be *invalid*, but availability where a stress says beforehand that requests fail, and no stress may fail.
Exit status 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.mutants.catalogue import CHECKOUT
from tests.stresses.kinds import STRESSES, Stress
from tests.stresses.stressed import LAB, Stressed, StressError
from tests.tools import run_tool

_CHECK_S = 180
VALID, UNKNOWN = "valid", "unknown, as named beforehand"


def outcome_of(judged: Mapping[str, Any], stress: Stress) -> str:
    """Returns how a run under a stress was judged; what is neither of the two good outcomes says what is wrong."""
    verdicts = judged["verdicts"]
    wrong = [
        f"{each['checker']}: {_first(each)}"
        for each in verdicts
        if each["outcome"] == "invalid" and not (stress.fails and each["claim"] == "availability")
    ]
    if wrong:
        return f"INVALID: {'; '.join(wrong)}"
    open_ = [
        each
        for each in verdicts
        if each["claim"] == "correctness" and each["outcome"] == "unknown" and not each.get("open")
    ]
    if surprising := [each for each in open_ if each["checker"] not in stress.destroys]:
        return "UNKNOWN: " + "; ".join(f"{each['checker']}: {each['summary']}" for each in surprising)
    return UNKNOWN if open_ else VALID


def _first(verdict: Mapping[str, Any]) -> str:
    return str(next((each["message"] for each in verdict["violations"]), verdict["summary"]))


def trial(stress: Stress, name: str) -> str:
    """Carries a stress out once, and returns the worst outcome of its runs."""
    with tempfile.TemporaryDirectory(prefix="stress-") as folder:
        lab = Stressed(name, Path(folder))
        try:
            stress.run(lab)
        except (StressError, OSError, subprocess.SubprocessError) as error:
            return f"FAILED: {error}"
        finally:
            lab.down()
        outcomes = [_judged(run, stress) for run in lab.runs]
    if not outcomes:
        return "FAILED: no run"
    return max(outcomes, key=lambda each: (each not in (VALID, UNKNOWN), each == UNKNOWN))


def _judged(run: Path, stress: Stress) -> str:
    command = (*LAB, "check", str(run), "--json", "--unsealed")
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=_CHECK_S, check=False)
    if done.returncode not in (0, 1, 2):
        return f"FAILED: {done.stderr.strip()}"
    return outcome_of(json.loads(done.stdout), stress)


def main() -> int:
    """Prints the outcome of each trial; returns 1 if one is wrong."""
    parser = argparse.ArgumentParser(
        prog="make stresses", description="Puts labs without a bug under stress. Example: make stresses N=2 ONLY=clock."
    )
    parser.add_argument("text", nargs="?", default="", help="only stresses with this text in their name")
    parser.add_argument("--times", type=int, default=10, help="trials of each, default 10")
    options = parser.parse_args()
    chosen = {name: stress for name, stress in STRESSES.items() if options.text in name}
    if not chosen or options.times < 1:
        parser.error(f"no trial; there are {', '.join(STRESSES)}")
    console, counts = Console(soft_wrap=True), Counter[bool]()
    for name, stress in chosen.items():
        named = "; ".join(f"{checker}: {why}" for checker, why in stress.destroys.items()) or "nothing"
        failing = f"; requests fail: {stress.fails}" if stress.fails else ""
        console.print(f"{name} destroys {named}{failing}", markup=False)
        for number in range(1, options.times + 1):
            began = time.monotonic()
            outcome = trial(stress, f"stress-{os.getpid()}-{number}")
            counts[outcome in (VALID, UNKNOWN)] += 1
            console.print(f"  {number}/{options.times} {outcome} ({time.monotonic() - began:.0f} s)", markup=False)
    console.print(f"{counts[True]} of {counts.total()} as they must be")
    return 1 if counts[False] else 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
