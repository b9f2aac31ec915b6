"""``lab conform``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from lab.cli.coroutines import run_interruptibly
from lab.cli.options import Json
from lab.cli.output import console, print_json, say, table
from lab.errors import InputError
from lab.plain_text import printable, require_header_value
from lab.plugins.conform import Options, Result, Target, Verdict
from lab.plugins.conform import conform as run
from lab.plugins.conform.control import control_of
from lab.plugins.conform.forms import ByEnvelope, ByHeader
from lab.plugins.conform.profile import PROFILES, Profile, ProfileOptions
from lab.plugins.conform.run import FIRST_PORT
from lab.plugins.conform.written import as_document, as_html, as_junit, figures_of
from lab.routing.keys import HEADER

_STYLES = {Verdict.PASS: "green", Verdict.FAIL: "bold red", Verdict.UNKNOWN: "yellow"}
_PICKER = "picker"
_FAILS = 2
_MAX_LINE = 600
_LONGEST_S = 3_600.0
_LAST = 65_000


def conform(
    address: Annotated[str, typer.Argument(help="The proxy's host:port, on this machine or in a lab's containers.")],
    control: Annotated[
        str,
        typer.Option(
            help="How to change the proxy's routes: the name of a control, or a command that gets a file with the "
            "table and ends once the proxy follows. Without it, checks that need a change are unknown."
        ),
    ] = "",
    drain: Annotated[str, typer.Option(help="Command that asks the proxy to end gracefully; runs last.")] = "",
    checks: Annotated[str, typer.Option(metavar="A,B", help="Checks to run; all by default.")] = "",
    header: Annotated[str, typer.Option(help="Name of the routing header.")] = HEADER,
    envelope: Annotated[
        bool,
        typer.Option(
            "--envelope", help="The proxy is a gateway: it routes ranking.v1 requests on the envelope in their body."
        ),
    ] = False,
    ca: Annotated[Path | None, typer.Option(help="Authorities to trust, PEM; the connection is TLS then.")] = None,
    cert: Annotated[Path | None, typer.Option(help="Certificate to present, PEM.")] = None,
    key: Annotated[Path | None, typer.Option(help="Key of the certificate, PEM.")] = None,
    server_name: Annotated[str, typer.Option(help="Name in the proxy's certificate, where it is not the host.")] = "",
    first_port: Annotated[
        int,
        typer.Option(
            min=0, max=_LAST, help=f"Port of the first model [default: {FIRST_PORT}; any free one with --control]."
        ),
    ] = 0,
    routes_out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the routes that the proxy must have, as JSON.")
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0, max=_LONGEST_S, help="Seconds to wait for routes, without --control.")
    ] = 60.0,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the results as JUnit XML.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the results as a page.")] = None,
    profile: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What else to try than routing on a header; endpoint-picker: a gateway that asks an endpoint picker.",
        ),
    ] = "",
    test_picker: Annotated[
        bool, typer.Option("--test-picker", help="ADDRESS is an endpoint picker: ask it as a gateway does.")
    ] = False,
    send: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Header of each request to a picker; repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say which features a routing proxy has: any that takes gRPC and routes on a header (or on an envelope).

    Models listen on ports of this machine; the routes that the proxy must have are printed, and written by
    --routes-out. Nothing is sent to other machines. Exit status 2 if a check fails.

    Example: lab conform 127.0.0.1:8080 --control ./apply-routes.sh --junit conform.xml
    Example: lab conform 127.0.0.1:8080 --profile endpoint-picker --control picking-envoy
    Example: lab conform --test-picker 127.0.0.1:9002
    """
    target = Target.of(address, ca=ca, cert=cert, key=key, name=server_name)
    for option, file in (("--junit", junit), ("--html", html), ("--routes-out", routes_out)):
        if file is not None and not file.resolve().parent.is_dir():
            raise InputError(f"{option}: no folder {file.parent}; make it first")
    if test_picker and profile not in {"", _PICKER}:
        raise InputError("--test-picker and --profile: leave one of the two out")
    asked = ProfileOptions(
        header=header,
        checks=[each for each in checks.split(",") if each],
        control=control,
        first_port=first_port,
        routes_out=routes_out,
        wait_s=wait,
        send=_headers(send or ()),
    )
    results = _results(target, _PICKER if test_picker else profile, asked, drain=drain, envelope=envelope)
    if junit is not None:
        junit.write_text(as_junit(target.address, results))
    if html is not None:
        html.write_text(as_html(target.address, control, results))
    if as_json:
        print_json(as_document(target.address, results))
    else:
        _show(target.address, results)
    if any(each.verdict is Verdict.FAIL for each in results):
        raise typer.Exit(_FAILS)


def _results(target: Target, profile: str, asked: ProfileOptions, *, drain: str, envelope: bool) -> list[Result]:
    if profile:
        if envelope or drain:
            raise InputError(f"--profile {profile}: has no use for --envelope and --drain; leave them out")
        _name(asked.header)
        return run_interruptibly(_of_profile(PROFILES[profile], target, asked))
    if asked.send:
        raise InputError("--send: is for --test-picker")
    if drain and not asked.control:
        raise InputError("--drain needs --control; give both, or neither")
    options = Options(
        form=_form(asked.header, envelope=envelope),
        checks=asked.checks,
        first_port=asked.first_port,
        routes_out=asked.routes_out,
        wait_s=asked.wait_s,
    )
    control = control_of(asked.control, drain) if asked.control else None
    return run_interruptibly(run(target, options, control, say=_say, on_result=_progress))


async def _of_profile(profile: Profile, target: Target, options: ProfileOptions) -> list[Result]:
    return await profile.run(target, options, say=_say, on_result=_progress)


def _headers(texts: Sequence[str]) -> dict[str, str]:
    headers = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not re.fullmatch(r"[a-z0-9-]{1,64}", name):
            raise InputError(f"--send: {text[:60]!r} is not NAME=VALUE, with a name in lower case")
        try:
            require_header_value("--send", value)
        except ValueError as error:
            raise InputError(str(error)) from None
        headers[name] = value
    return headers


def _form(header: str, *, envelope: bool) -> ByHeader:
    if not envelope:
        return ByHeader(_name(header))
    if header != HEADER:
        raise InputError("--header and --envelope: a gateway reads no routing header; leave one of the two out")
    return ByEnvelope()


def _name(header: str) -> str:
    if not header or not header.isascii() or not header.replace("-", "").isalnum() or header != header.lower():
        raise InputError(f"--header: {header!r} is not a name of a gRPC header; write e.g. {HEADER}")
    if header.startswith("grpc-") or header.endswith("-bin"):
        raise InputError(f"--header: {header!r} is reserved by gRPC; choose another name")
    return header


def _say(line: str) -> None:
    say(printable(line, _MAX_LINE).replace("[", r"\["))


def _progress(result: Result) -> None:
    _say(f"  {result.verdict} in {result.seconds:g} s{f': {result.reason}' if result.reason else ''}")


def _show(address: str, results: list[Result]) -> None:
    rows = [
        (
            each.feature,
            Text(each.verdict, _STYLES[each.verdict]),
            printable(each.reason or figures_of(each), _MAX_LINE),
            each.upstream,
        )
        for each in results
    ]
    headings = ("feature", "verdict", "reason or figures", "upstream")
    console.print(table(headings, rows, folds=headings[2:3], optional=headings[3:]))
    numbers = ", ".join(f"{sum(each.verdict is verdict for each in results)} {verdict}" for verdict in Verdict)
    console.print(f"\n{address}: {numbers}", markup=False)
