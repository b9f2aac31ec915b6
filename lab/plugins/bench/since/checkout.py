"""A checkout of this project with its environment, driven by its command line alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from lab import CHECKOUT
from lab.errors import InputError, LabError, UnitError

CACHE = CHECKOUT / "runs" / "since"
"""Checkouts of other revisions with their environments, by commit."""

LONGEST_S = 900.0
_ABSENT = re.compile(r"No such (?:command|option)|is not known|has no such option", re.IGNORECASE)
# What make, a virtual environment and a lab that is up put into the environment.
_OURS = re.compile(r"MAKE|MFLAGS|GNUMAKEFLAGS|ARGS$|PYTHONPATH|VIRTUAL_ENV|LAB_")
_ENDING = ((signal.SIGINT, 3.0), (signal.SIGTERM, 10.0), (signal.SIGTERM, 60.0))


class AbsentError(LabError):
    """A checkout lacks a command, an option or a figure, so there is nothing to compare."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did: its exit status, its seconds, and its JSON document, None without ``--json``."""

    status: int
    took_s: float
    document: Any


@dataclass(frozen=True, slots=True)
class Checkout:
    """A checkout with its environment; its labs keep state and runs in ``home``, and no other lab sees them."""

    folder: Path
    command: Path
    home: Path
    commit: str
    _helps: dict[str, str] = field(default_factory=dict)

    def lab(self, *arguments: str, statuses: Sequence[int] = (0,)) -> Outcome:
        """Runs ``lab`` with these arguments, and waits.

        Raises:
            AbsentError: the checkout does not know the command or an option.
            UnitError: another exit status, no result, or no end in :data:`LONGEST_S`.
        """
        said, began = f"lab {' '.join(arguments)}", time.monotonic()
        environment = {"LAB_HOME": str(self.home), "LAB_NAME": "since", "LAB_RUNTIME": "process"}
        status, out, errors = _run([self.command, *arguments], self.folder, environment)
        took_s = time.monotonic() - began
        last = next(reversed(errors.strip().splitlines()), "it says nothing")
        if _ABSENT.search(errors) and status:
            raise AbsentError(f"{said}: {last}")
        if status not in statuses:
            raise UnitError(f"{said}: exit status {status}: {last}")
        try:
            return Outcome(status, took_s, json.loads(out) if "--json" in arguments else None)
        except ValueError:
            raise UnitError(f"{said}: exit status {status}, without a result: {last}") from None

    def known(self, command: str, *options: str) -> list[str]:
        """Returns options with their values, ``--streams=0``, less those that this checkout's command lacks."""
        if command not in self._helps:
            self._helps[command] = _run([self.command, command, "--help"], self.folder, {})[1]
        return [option for option in options if f"{option.partition('=')[0]} " in self._helps[command]]

    def clean(self) -> None:
        """Takes down every lab that its commands have left."""
        for lab in sorted((self.home / ".lab").glob("*/")):
            with suppress(LabError):
                self.lab("down", "--name", lab.name)


@contextmanager
def opened(commit: str, say: Callable[[str], None]) -> Iterator[tuple[Checkout, Checkout]]:
    """Opens a checkout of a commit, which is made if it is not there, and this checkout; in the end, cleans both.

    Raises:
        InputError: the commit does not build.
    """
    folder = CACHE / commit[:12]
    CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / ".venv" / "ready").exists():
            say(f"making a checkout of {commit[:12]} with its environment, once: {folder}")
            shutil.rmtree(folder, ignore_errors=True)
            try:
                _build(folder, commit)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
    with tempfile.TemporaryDirectory(prefix="since-") as temporary:
        old = Checkout(folder, folder / ".venv" / "bin" / "lab", Path(temporary) / "old", commit)
        new = Checkout(CHECKOUT, Path(sys.executable).parent / "lab", Path(temporary) / "new", here())
        try:
            yield old, new
        finally:
            old.clean()
            new.clean()


def commit_of(revision: str) -> str:
    """Returns the commit, in full.

    Raises:
        InputError: this repository does not have it.
    """
    try:
        return git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except (OSError, subprocess.CalledProcessError):
        rest = "; the clone is shallow: git fetch --unshallow" if is_shallow() else ""
        raise InputError(f"{revision}: no such commit in {CHECKOUT}{rest}") from None


def here() -> str:
    """Returns this checkout's commit in full, and whether files differ from it: ``1a2b…, changed``."""
    return git("describe", "--always", "--dirty=, changed", "--abbrev=40", "--exclude=*")


def is_shallow() -> bool:
    """Whether this checkout's history is cut off, or it has none."""
    try:
        return git("rev-parse", "--is-shallow-repository") == "true"
    except (OSError, subprocess.CalledProcessError):
        return True


def git(*arguments: str) -> str:
    """Runs git in this checkout, and returns what it prints."""
    done = subprocess.run(("git", *arguments), cwd=CHECKOUT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _build(folder: Path, commit: str) -> None:
    git("clone", "--quiet", "--shared", "--no-checkout", str(CHECKOUT), str(folder))
    git("-C", str(folder), "checkout", "--quiet", "--detach", commit)
    python = f"PYTHON={Path(sys.executable).resolve()}"
    status, out, errors = _run(["make", "--no-print-directory", ".venv/ready", python], folder, {})
    if status:
        last = next(reversed((errors or out).strip().splitlines()), "make says nothing")
        raise InputError(f"{commit[:12]} does not build: {last}")


def _run(command: Sequence[str | Path], folder: Path, more: dict[str, str]) -> tuple[int, str, str]:
    """Runs a command in a session of its own, so that Ctrl-C reaches it only from here, and it cleans up first."""
    environment = {name: value for name, value in os.environ.items() if not _OURS.match(name)} | more
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, errors = process.communicate(timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            end(process)
            raise UnitError(f"{' '.join(map(str, command))}: did not end in {LONGEST_S:g} s") from None
        except BaseException:
            end(process)
            raise
        return process.returncode, out, errors


def end(process: subprocess.Popen[str]) -> None:
    """Ends the first process of a session, and the session if it does not.

    It gets Ctrl-C, which a bench takes for "finish this round", then SIGTERM, for its lab to be taken down.
    """
    for number, seconds in _ENDING:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=seconds)
            return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
