"""What reads files of the lab, and the command line, with wrong content; see :mod:`tests.fuzz.targets`."""

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import typer
from typer.main import get_group

from lab.cli import app, commands
from lab.errors import InputError, LabError, RunError
from lab.faults.journal import JOURNAL, Journal
from lab.faults.state import STATE, FaultStore
from lab.report.run import read_run
from lab.runs import judge
from lab.runtime.state import LabState
from lab.spec import SIZES, read_spec
from models.host.hosted import read_hosted
from services.caller.config import read_config
from tests.report.builders import make_record, write_run

_RUN_FILES = (
    *("plan.json", "revisions.json", "events.json", "versions.json", "window.json", "driver.json", "spec.json"),
    *("probes.json", "registrations.json", "published.json", "seal.json", "together.json", "copies.json"),
    "receipt-keys.json",
)
_HAND_WRITTEN: dict[str, Any] = {
    "window.json": {"from_ns": 1, "until_ns": 2},
    "driver.json": {"planned": 20},
    "spec.json": {"security": {"mode": "mtls"}},
    "receipt-keys.json": {"1f3a": "5ec7e7"},
    "probes.json": [["resolver", 1, 2, 1]],
    "registrations.json": {"asked_ns": 1, "before": [], "after": [{"since_ns": 1, "replicas": []}]},
    "published.json": {"1": [["r.yaml", "use_cases: {}\nmodels: {}\nclusters: {}\n"]]},
}
SPEC_SEEDS = tuple(path.read_bytes() for path in SIZES.values())


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="fuzz-"))


def spec_file(data: bytes) -> None:
    """A lab's spec."""
    path = _folder() / "lab.toml"
    path.write_bytes(data)
    with contextlib.suppress(InputError):
        read_spec(path)


@cache
def _run() -> Path:
    folder = write_run(_folder(), [make_record(each) for each in range(5)])
    for name, document in _HAND_WRITTEN.items():
        (folder / name).write_text(json.dumps(document))
    return folder


def run_seeds() -> tuple[bytes, ...]:
    """The files of a run; the first byte says which."""
    folder = _run()
    present = [(number, folder / name) for number, name in enumerate(_RUN_FILES) if (folder / name).exists()]
    return tuple(bytes([number]) + path.read_bytes() for number, path in present)


def run_folder(data: bytes) -> None:
    """One file of a run, which is then judged and read for a report."""
    path = _run() / _RUN_FILES[(data[0] if data else 0) % len(_RUN_FILES)]
    before = path.read_bytes() if path.exists() else None
    path.write_bytes(data[1:])
    try:
        for read in (judge, read_run):
            with contextlib.suppress(RunError):
                read(path.parent)
    finally:
        path.unlink()
        if before is not None:
            path.write_bytes(before)


_STATE_FILES: tuple[tuple[str, Callable[[Path], object]], ...] = (
    ("state.json", LabState.load),
    (STATE, lambda path: FaultStore(path.parent).all()),
    (JOURNAL, lambda path: Journal(path.parent).acts()),
    ("caller.json", lambda path: read_config("homepage", path)),
    ("hosted.json", read_hosted),
)
STATE_SEEDS = (
    b'\x00{"runtime": "process", "spec_file": "", "spec": {}, "plan": {"units": [], "callers": {}}, "running": {}}',
    b'\x01{"next": 2, "faults": [{"id": "kill-1", "units": ["a"]}]}',
    b'\x02{"number": 1, "at_ns": 1, "who": "", "unit": "", "what": "", "detail": ""}\n{"number": 1, "status": "OK"}',
    b'\x03{"topologies": ["mesh"], "apis": {"A": "ranking.v1"}, "endpoints": {"by_role": {}}, "page": [["A"]]}',
    b'\x04[["a", "a-a", "127.0.0.1:1"]]',
)


def state_file(data: bytes) -> None:
    """A file in a lab's folder; the first byte says which."""
    name, read = _STATE_FILES[(data[0] if data else 0) % len(_STATE_FILES)]
    path = _folder() / name
    path.write_bytes(data[1:])
    try:
        with contextlib.suppress(LabError):
            read(path)
    finally:
        path.unlink()


_GROUPED = (
    "routes publish",
    "routes set",
    "routes rollback",
    "routes show",
    "routes explain",
    "fault inject",
    "pki rotate",
)
_COMMANDS = (*(each for each in commands() if each not in {"routes", "fault", "pki"}), *_GROUPED, "pki rotate")
COMMAND_SEEDS = tuple(
    bytes([number]) + b"\0".join(arguments)
    for number, name in enumerate(_COMMANDS)
    for arguments in [
        [b"--name", b"lab", b"--json", b"--rate", b"100", b"--users", b"10"],
        [b"UpNext", b"3", b"--expect", b"1", b"--comment", b"why", b"--seed=1", b"--caller=homepage", name.encode()],
    ]
)


def command_line(data: bytes) -> None:
    """Arguments of a command, which is not run; the first byte says which, and NUL separates them."""
    name = _COMMANDS[(data[0] if data else 0) % len(_COMMANDS)]
    arguments = [os.fsdecode(each) for each in data[1:].split(b"\0")]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(typer.TyperException, InputError, typer.Exit):
        _command(name).make_context(name, arguments)


@cache
def _command(name: str) -> Any:
    command: Any = get_group(app)
    for word in [name] if name in commands() else name.split():
        command = command.get_command(None, word)
    return command
