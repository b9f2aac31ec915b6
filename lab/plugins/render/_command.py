"""``lab render``: the route table for programs that people already run, or the lab as files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from lab.cli.options import Json, availability_of
from lab.cli.output import print_json, say
from lab.errors import InputError
from lab.plugins.kubernetes.options import IMAGE_VARIABLE
from lab.plugins.render import DEFAULT_SLO, TARGETS, Source
from lab.routing.document import RouteTable, read_sources, sources_of, tree_of
from lab.routing.yaml_nodes import dotted
from lab.spec import SIZES, override, read_spec, spec_file

if TYPE_CHECKING:
    from lab.plugins.render import Rendering, Target, Unexpressed
    from lab.routing.yaml_nodes import Node

_RULE = 4  # steps of a path to a rule: use_cases, its name, rules, number


def render(
    target: Annotated[
        str,
        typer.Argument(metavar="TARGET", help=f"One of: {', '.join(TARGETS)}.", autocompletion=lambda: sorted(TARGETS)),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the files; standard output by default. Its parent must exist.")
    ] = None,
    routes: Annotated[Path | None, typer.Option(help="Route table; the spec's own by default.")] = None,
    spec: Annotated[Path, typer.Option(help=f"Spec of the lab: a file, or one of {', '.join(SIZES)}.")] = SIZES[
        "default"
    ],
    security: Annotated[str, typer.Option(help="Instead of the spec's: mtls or plaintext.")] = "",
    image: Annotated[
        str, typer.Option(metavar="REF", help="Image of the units, for kubernetes: by digest, REPOSITORY@sha256:…")
    ] = "",
    slo: Annotated[
        str | None,
        typer.Option(
            metavar="availability>=P%",
            help="Objective of error budgets, for prometheus: share of requests that must be answered "
            f"[default: availability>={100 * DEFAULT_SLO:g}%].",
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail, and write nothing, if the target cannot express a part.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Render a route table for a program that people already run, or the lab for kubernetes; needs no lab.

    Standard error lists each part of the table, or of the lab's security, that the target cannot express: a line with
    its field, the reason, and what the rendering does instead. With --strict, exit 1 if there is one.

    Example: lab render gateway-api --out rendered

    Only if nothing is lost: lab render istio --strict --out rendered

    The lab itself: lab render kubernetes --out rendered --image registry.example/lab@sha256:…
    """
    chosen = TARGETS[target]
    _check_options(chosen, out, image)
    objective = DEFAULT_SLO if slo is None else _objective(chosen, slo)
    read = override(read_spec(spec_file(spec)), security=security)
    sources = sources_of(routes or read.routes)
    table = read_sources(sources)
    image = image or os.environ.get(IMAGE_VARIABLE, "")
    rendering = chosen.render(Source(read, table, image, objective))
    tree = tree_of(sources)
    of_spec = "--security" if security else str(spec_file(spec))
    listed = [_listed(each, table, tree, of_spec) for each in _in_order(rendering.unexpressed, tree)]
    if strict and listed:
        _say_all(listed)
        first = listed[0]
        raise InputError(
            f"{_place(first)}: {target} cannot express this"
            f"{f' and {len(listed) - 1} more' if listed[1:] else ''}: {first['reason']}; leave --strict out to render "
            "the rest"
        )
    if out is not None:
        _write(out, rendering.files)
    _say_all(listed)
    if as_json:
        files = sorted(rendering.files) if out is not None else dict(rendering.files)
        print_json({"target": target, "out": str(out or ""), "files": files, "unexpressed": listed})
    elif out is None:
        print(_together(rendering), end="")
    else:
        say(f"{len(rendering.files)} files in {out}: {', '.join(_shortened(rendering.files))}")
    if chosen.deploys and "@sha256:" not in image:
        say("the image is named by a tag, which may move: pin it with --image REPOSITORY@sha256:…")


def _check_options(target: Target, out: Path | None, image: str) -> None:
    if target.deploys and out is None:
        raise InputError(f"--out: name a folder; {target.name} renders folders of files, some with private keys")
    if image and not target.deploys:
        raise InputError(f"--image: {target.name} names no image; leave it out, or render kubernetes")


def _objective(target: Target, slo: str) -> float:
    """The share of requests that must be answered, below 1: no budget can be spent if there is none."""
    if not target.has_slo:
        raise InputError(f"--slo: {target.name} has no error budgets; leave it out, or render prometheus")
    share = availability_of(slo)
    if share == 1:
        raise InputError(f"--slo: {slo!r} leaves no error budget; write less than 100 %, e.g. 'availability>=99.99%'")
    return share


def _shortened(files: Iterable[str]) -> list[str]:
    """The files of the top, and the folders in it."""
    return sorted({f"{first}/" if rest else first for first, _, rest in (name.partition("/") for name in files)})


def _listed(part: Unexpressed, table: RouteTable, tree: Node, of_spec: str) -> dict[str, Any]:
    """The part as a mapping; ``of_spec`` names the spec, whose parts have no line."""
    file, line = (of_spec, None) if part.in_spec else tree.locate(part.path)
    at = part.path[:_RULE]
    is_rule = at[0] == "use_cases" and len(at) == _RULE and at[2] == "rules"
    rule = table.document["use_cases"][at[1]]["rules"][at[3]]["name"] if is_rule else ""
    return {
        "file": file,
        "line": line,
        "field": dotted(part.path),
        "rule": rule,
        "reason": part.reason,
        "instead": part.instead,
    }


def _say_all(listed: Sequence[Mapping[str, Any]]) -> None:
    for each in listed:
        rule = f" ({each['rule']})" if each["rule"] else ""
        say(escape(f"{_place(each)}{rule}: {each['reason']}; {each['instead']}"))


def _place(listed: Mapping[str, Any]) -> str:
    line = "" if listed["line"] is None else f":{listed['line']}"
    return f"{listed['file']}{line}: {listed['field']}"


def _in_order(parts: Sequence[Unexpressed], tree: Node) -> list[Unexpressed]:
    """The parts of the spec, then those of the table by file and line."""
    return sorted(parts, key=lambda each: ("", 0) if each.in_spec else tree.locate(each.path))


def _together(rendering: Rendering) -> str:
    """All files as one text; files of YAML are documents of one stream."""
    return "---\n".join(f"# {name}\n{text}" for name, text in rendering.files.items())


def _write(out: Path, files: Mapping[str, str]) -> None:
    """Writes the files to a folder, all or none; others in it stay. Only this user can read them: some hold keys.

    Raises:
        InputError: the folder cannot be made or written.
    """
    try:
        if not out.exists():
            out.mkdir()
        with TemporaryDirectory(prefix=".render-", dir=out) as temporary:
            for name, text in files.items():
                (Path(temporary) / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(temporary) / name).write_text(text)
                if (out / name).is_dir():
                    raise InputError(f"--out: {out / name} is a folder; remove it, or name another folder")
                (out / name).parent.mkdir(parents=True, exist_ok=True)
            for name in files:
                (Path(temporary) / name).replace(out / name)
    except OSError as error:
        reason = (error.strerror or "cannot be written").lower()
        raise InputError(f"--out: {out}: {reason}; name a folder, in one that exists and can be written") from error
