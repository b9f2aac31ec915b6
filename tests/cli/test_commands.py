"""Commands are imported one by one, and all of them are there."""

import subprocess
import sys

import pytest
from typer.main import get_group

from lab.cli import COMMANDS, app
from tests.lab_command import run_lab


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_found_in_its_module(name: str) -> None:
    command = get_group(app).get_command(None, name)  # type: ignore[arg-type] # no context is needed

    assert command is not None
    assert command.name == name


def test_one_that_was_mistyped_is_guessed_without_having_been_imported() -> None:
    done = run_lab(None, "scenario")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "lab: No such command 'scenario'. Did you mean 'scenarios'?\n"


def test_reading_commands_do_not_import_what_benches_need() -> None:
    script = "import sys; sys.argv[1:] = ['status', '--name', 'nobodys']\nfrom lab.cli import main\ntry: main()\n"
    script += "except SystemExit: print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)

    assert "lab nobodys is not up" in done.stderr
    assert not {"numpy", "pyarrow", "aiohttp", "docker", "jinja2", "scenarios"} & set(done.stdout.split())
