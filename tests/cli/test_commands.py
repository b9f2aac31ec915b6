"""Commands are imported one by one, and all of them are there."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from itertools import groupby
from pathlib import Path

import pytest
import typer
from typer.main import get_group

from lab.cli import COMMANDS

LAB = str(Path(sys.executable).parent / "lab")


@pytest.mark.parametrize(
    ("module", "commands"),
    [(module, list(commands)) for module, commands in groupby(COMMANDS, key=COMMANDS.__getitem__)],
)
def test_a_module_registers_the_commands_that_are_looked_for_in_it(module: str, commands: list[str]) -> None:
    part = typer.Typer()
    import_module(f"lab.cli.{module}").register(part)

    assert list(get_group(part).commands) == commands


def test_one_that_was_mistyped_is_guessed_without_having_been_imported() -> None:
    done = subprocess.run([LAB, "scenario"], capture_output=True, text=True, check=False, timeout=60)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "lab: No such command 'scenario'. Did you mean 'scenarios'?\n"


def test_what_only_looks_does_not_wait_for_what_benches_need() -> None:
    script = "import sys; sys.argv[1:] = ['status', '--name', 'nobodys']\nfrom lab.cli import main\ntry: main()\n"
    script += "except SystemExit: print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)

    assert "lab nobodys is not up" in done.stderr
    assert not {"numpy", "pyarrow", "aiohttp", "docker", "jinja2", "scenarios"} & set(done.stdout.split())
