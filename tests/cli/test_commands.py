"""Commands are imported one by one, and all of them are there."""

import json
import subprocess
import sys
from collections.abc import Iterable
from functools import cache

import pytest
from typer import rich_utils
from typer.main import get_group
from typer.testing import CliRunner

from lab.cli import app, commands
from lab.cli.output import console
from tests.lab_command import run_lab


@pytest.mark.parametrize("name", commands())
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


def test_after_a_command_that_prints_json_text_is_printed_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(CliRunner().invoke(app, ["doctor", "--json"]).output)

    console.print("text")
    assert capsys.readouterr().out == "text\n"


def test_every_command_has_help_with_an_example_cut_in_no_window_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    def pages(*, width: int) -> dict[tuple[str, ...], str]:
        monkeypatch.setattr(rich_utils, "MAX_WIDTH", width)
        return {command: help_of(command) for command in ((), *((name,) for name in commands()), *map(tuple, verbs()))}

    def help_of(command: tuple[str, ...]) -> str:
        shown = CliRunner().invoke(app, [*command, "--help"])
        assert shown.exit_code == 0, command
        return shown.output

    def ellipses(pages: Iterable[str]) -> set[str]:
        return {word for page in pages for word in page.split() if "…" in word}

    narrow, wide = pages(width=80), pages(width=1_000)

    assert ellipses(narrow.values()) == ellipses(wide.values())
    for command in verbs():
        assert f"Example: lab {' '.join(command)}" in " ".join(narrow[tuple(command)].split())


@cache
def verbs() -> list[list[str]]:
    """All that can be run: commands of one noun, such as ``routes show``, one by one."""
    group, found = get_group(app), []
    for name in commands():
        nouns = getattr(group.get_command(None, name), "commands", {})  # type: ignore[arg-type] # no context is needed
        found += [[name, verb] for verb in nouns] or [[name]]
    return found


def test_a_paragraph_of_help_is_one_line_in_a_wide_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rich_utils, "MAX_WIDTH", 1_000)

    help_text = CliRunner().invoke(app, ["roll", "--help"]).output

    assert "A step lasts until there are enough" in help_text
