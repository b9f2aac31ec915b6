"""Every option of every command, found by walking the parser, with values and files that it must refuse in one line."""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import certifi
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.main import get_group

from lab.cli import app, main
from lab.errors import LabError
from lab.load.trace import read_trace
from lab.runs.folder import PLAN
from tests.hostile_files import FILES, put

MISSING = "/nonexistent/file"
MEMORY = 2 << 30
HERE = "<file>"
READS = {
    ("--plugin",): (HERE, "status"),
    ("up", "--spec"): (HERE,),
    ("up", "--routes"): (HERE,),
    ("up", "--otlp-ca"): (HERE, "--otlp", "https://127.0.0.1:1"),
    ("load", "--locustfile"): (HERE,),
    ("load", "--prompts"): (HERE,),
    ("check", "run_dir"): (HERE,),
    ("check", "--checker"): (HERE, MISSING),
    ("check", "--signers"): (HERE, MISSING),
    ("console", "run_dir"): (HERE,),
    ("report", "run_dirs"): (HERE,),
    ("compare", "a"): (HERE, MISSING),
    ("compare", "b"): (MISSING, HERE),
    ("bench since", "--from"): (HERE,),
    ("bench since", "--decision"): (HERE, "--from", MISSING),
    ("capacity", "--from"): (HERE,),
    ("conform", "--ca"): ("127.0.0.1:1", HERE),
    ("conform", "--cert"): ("127.0.0.1:1", HERE, "--key", MISSING),
    ("conform", "--key"): ("127.0.0.1:1", HERE, "--cert", certifi.where()),
    ("routes", "validate", "file"): (HERE,),
    ("routes", "publish", "file"): (HERE,),
    ("routes", "set", "file"): ("UpNext", HERE),
    ("routes", "explain", "--file"): ("UpNext", HERE),
    ("explain", "--run"): ("nobody-1", HERE),
    ("page", "--run"): (HERE,),
    ("play", "--replay"): (HERE,),
    ("audit-bench", "file"): (HERE,),
    ("render", "--routes"): ("gateway-api", HERE),
    ("render", "--spec"): ("gateway-api", HERE),
}
"""Options that take a file to read: the arguments of the command."""

WRITES = {
    *(("report", "--output"), ("report", "--png"), ("compare", "--html"), ("render", "--out")),
    ("new", "scenario", "folder"),
    *(("console", "--export"), ("play", "--save"), ("play", "--picture")),
    *(("conform", "--routes-out"), ("conform", "--junit"), ("conform", "--html")),
}
PROGRAMS = {"--plugin", "--checker", "--locustfile"}
HARMLESS_PROGRAMS = {"empty", "null", "list", "mapping", "text", "digits"}
NO_LAB = "nobodys"
COMPUTES = "capacity"  # its numbers have ranges of their own, by the assumption

HUGE = st.integers(min_value=10**19).map(str) | st.integers(max_value=-(10**19)).map(str)
NOT_FINITE = st.sampled_from(["nan", "inf", "-inf", "1e999", "9" * 5_000, "-" + "9" * 23, "1e23", "", "many"])
STEERING = st.sampled_from([*map(chr, range(1, 32)), "\x7f", "\x9b", "\u2028", "\u202e"])
WRONG_TEXTS = st.one_of(
    st.lists(STEERING, min_size=1, max_size=5).map(lambda some: f"a{''.join(some)}b"),
    st.integers(min_value=4_097, max_value=70_000).map(lambda count: "x" * count),
    st.binary(max_size=4).map(lambda some: os.fsdecode(b"a\xff" + some.replace(b"\0", b""))),
)


PARSER = get_group(app)
"""Parses for all tests here: a parser makes each command again that it is first asked for."""


def parameters(command: Any = PARSER, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The parameters of the whole parser, each with its command."""
    yield from ((path, each) for each in command.params)
    if hasattr(command, "list_commands"):
        for name in command.list_commands(None):
            yield from parameters(command.get_command(None, name), (*path, name))


def kind_of(parameter: Any) -> str:
    """Its type in words."""
    annotation = parameter.type_descriptor.annotation
    return "int or float" if annotation in {int, float} else str(annotation)


def option(parameter: Any) -> str:
    """How a user writes it."""
    return str(parameter.opts[0])


def given_as(path: tuple[str, ...], parameter: Any, value: str) -> list[str]:
    """The arguments that give it this value; before that of a later argument, a word for each earlier one."""
    if option(parameter).startswith("--"):
        return [f"{option(parameter)}={value}"]
    earlier = {
        ("routes", "set", "file"): 1,
        ("fault", "inject", "target"): 1,
        ("compare", "b"): 1,
        ("routes", "diff", "b"): 1,
        ("callers", "use", "callers"): 1,
    }
    return ["--", *["1"] * earlier.get((*path, option(parameter)), 0), value]


def lab(*arguments: str) -> str:
    """Runs the command in this process; returns the one line in which it refuses."""
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lab", *arguments])
        patch.setattr("lab.cli.app", PARSER)
        patch.setenv("LAB_NAME", NO_LAB)
        patch.setattr(sys.stderr, "write", said.append)
        with memory_limit(), pytest.raises(SystemExit) as ended:
            main()
    text = "".join(line for line in said if not line.startswith("· "))  # progress
    assert ended.value.code in {1, 3}, text
    assert text.startswith("lab: "), text
    assert text.count("\n") == 1, text
    assert text.rstrip("\n").isprintable(), text
    assert len(text) < 2_100
    return text


@contextmanager
def memory_limit() -> Iterator[None]:
    """Lets the body take so much memory more, and no machine be harmed by a reader without bounds."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def trying(strategy: st.SearchStrategy[str], path: tuple[str, ...], parameter: Any, *more: str) -> None:
    """Gives a parameter wrong values, each of which is refused in a line that names it."""
    name = option(parameter).strip("-") if option(parameter).startswith("--") else parameter.name

    @settings(max_examples=12, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def refuses(value: str) -> None:
        assert name in lab(*path, *given_as(path, parameter, value), *more).lower()

    refuses()


ALL = [pytest.param(path, each, id=" ".join((*path, option(each)))) for path, each in parameters()]
NUMBERS = [each for each in ALL if kind_of(each.values[1]) == "int or float"]
TEXTS = [each for each in ALL if "str" in kind_of(each.values[1]) or "Path" in kind_of(each.values[1])]


@pytest.mark.parametrize(("path", "parameter"), NUMBERS)
def test_a_number_has_a_range_and_others_are_refused(path: tuple[str, ...], parameter: Any) -> None:
    if path != (COMPUTES,):
        assert parameter.min is not None
        assert parameter.max is not None
    trying(HUGE | NOT_FINITE, path, parameter, *(["--from", MISSING] if path == (COMPUTES,) else []))


@pytest.mark.parametrize(("path", "parameter"), TEXTS)
def test_a_text_that_steers_or_never_ends_is_refused(path: tuple[str, ...], parameter: Any) -> None:
    wrong = WRONG_TEXTS.filter(lambda text: "\udcff" in text) if parameter.name == "comment" else WRONG_TEXTS
    trying(wrong, path, parameter, *([] if path else ["status"]))


def test_every_file_option_is_tried() -> None:
    assert {(*path, option(each)) for path, each in parameters() if "Path" in kind_of(each)} == READS.keys() | WRITES


@pytest.mark.parametrize(
    ("which", "kind"),
    [
        pytest.param(which, kind, id=f"{' '.join(which)}-{kind}")
        for which in READS
        for kind in FILES
        if which[-1] not in PROGRAMS or kind not in HARMLESS_PROGRAMS
    ],
)
def test_a_hostile_file_is_refused(which: tuple[str, ...], kind: str, tmp_path: Path) -> None:
    *command, name = which
    path = put(kind, tmp_path / "file.py")
    named = [name, str(path)] if name.startswith("--") else [str(path)]

    lab(*command, *(word for each in READS[which] for word in (named if each == HERE else [each])))


@pytest.mark.parametrize("kind", ["device", "pipe", "nested lists", "null"])
@pytest.mark.parametrize("command", ["check", "console", "report"])
def test_a_run_with_a_hostile_plan_cannot_be_judged(kind: str, command: str, tmp_path: Path) -> None:
    put(kind, tmp_path / PLAN)

    assert f"lab: {tmp_path / PLAN}" in lab(command, str(tmp_path))


@pytest.mark.parametrize("kind", ["device", "pipe", "sparse", "memory", "folder"])
def test_a_hostile_trace_is_refused(kind: str, tmp_path: Path) -> None:
    path = put(kind, tmp_path / "trace.csv")

    with pytest.raises(LabError, match=r"trace\.csv:"):
        next(read_trace(path))
