"""``lab load`` and ``lab check``."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.text import Text

from lab.bounds import COUNT, PORT, RATE, REQUESTS, SECONDS, SEED, SPEEDUP, USERS
from lab.checkers import CHECKERS, DEFAULT_CLAIMS, Claim, Outcome
from lab.cli.options import DEFAULT_TOPOLOGY, Json, Name, Topology, read_pairs
from lab.cli.output import console, print_json, progress_console, table
from lab.cli.progress import load_shown
from lab.cli.rate import RATE as IDLE_RATE
from lab.cli.rate import choose
from lab.errors import InputError
from lab.lab import Lab
from lab.load.plan import EXAMPLE, MAX_PROCESSES, MAX_WORKERS
from lab.load.trace import MAX_PAYLOAD_BYTES
from lab.registry import add_plugins
from lab.runs import LoadOptions, LocustOptions, ParallelResult, Terms, judge, runs_in
from lab.runs.drive import DEFAULT_CONTEXTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.load.progress import Progress
    from lab.load.summary import RunSummary
    from lab.runs import RunResult

EXIT_STATUS = {Outcome.VALID: 0, Outcome.INVALID: 1, Outcome.UNKNOWN: 2}

Claims = Annotated[
    str,
    typer.Option(metavar="C,…", help=f"Claims that decide the exit status: some of {', '.join(Claim)}."),
]
Slo = Annotated[
    str | None,
    typer.Option(
        metavar="availability>=P%", help="Share of requests that must be answered, of the run and of each use case."
    ),
]
_DEFAULT_CLAIMS = ",".join(DEFAULT_CLAIMS)

_ALL = "all"
_MAX_WEIGHT = 1_000
_ALL_PERCENT = 100
_STREAMS = 10
_EDGE_EVERY = 10
_PLACES = ("use case", "rule", "default", "condition", "negation", "cell", "edge", "fallback", "override")
_TENANTS = ("tenant", "sent", "failed", "p50 ms", "p99 ms")
_SHOWN_VIOLATIONS = 10  # of each checker
STYLES: Mapping[str, str] = {Outcome.VALID: "bold green", Outcome.INVALID: "bold red", Outcome.UNKNOWN: "bold yellow"}
_OPEN_LOOP, _LOCUST = "open-loop", "locust"
_UI_PORT = 8089

_PANEL = "Locust; each of these chooses it"

_Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help=f"{_OPEN_LOOP}, the default, or {_LOCUST}: the interactive load engine, the default with its options.",
    ),
]
_Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=0,
        max=MAX_WORKERS,
        help="Worker processes; 0: users run in the driver.",
        rich_help_panel=_PANEL,
    ),
]
_Locustfile = Annotated[
    Path | None,
    typer.Option("--locustfile", help="Behaviour of users; lab/load/locustfile.py by default.", rich_help_panel=_PANEL),
]
_Ui = Annotated[
    bool,
    typer.Option("--ui", help="Serve Locust's web UI, which sets the load until Ctrl-C.", rich_help_panel=_PANEL),
]
_UiPort = Annotated[
    int | None,
    typer.Option(
        "--ui-port",
        min=PORT.low,
        max=PORT.high,
        help=f"Port of the UI on 127.0.0.1; {_UI_PORT} by default.",
        rich_help_panel=_PANEL,
    ),
]


def load(
    topology: Topology = DEFAULT_TOPOLOGY,
    rate: Annotated[
        float | None,
        typer.Option(
            min=RATE.low,
            max=RATE.high,
            help=f"Requests per second; what this machine can take, {IDLE_RATE:g} at most, if left out.",
        ),
    ] = None,
    duration: Annotated[float, typer.Option(min=SECONDS.low, max=SECONDS.high, help="Seconds.")] = 10.0,
    arrivals: Annotated[str, typer.Option(help="poisson, constant or trace:FILE.")] = "poisson",
    speedup: Annotated[
        float, typer.Option(min=SPEEDUP.low, max=SPEEDUP.high, help="Play a trace this many times faster.")
    ] = 1.0,
    limit: Annotated[
        int | None, typer.Option(min=REQUESTS.low, max=REQUESTS.high, help="Play only the first requests of a trace.")
    ] = None,
    payload: Annotated[
        int, typer.Option(min=0, max=MAX_PAYLOAD_BYTES, help="Size of the feature vectors, bytes; a trace has its own.")
    ] = 400,
    caller: Annotated[
        str, typer.Option(help="Caller identity; several with commas, or all, send at the same time, each at the rate.")
    ] = "homepage",
    use_case: Annotated[
        list[str] | None, typer.Option(help="Use case, repeatable; all that the caller may call by default.")
    ] = None,
    context: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=A,B*3",
            help="Values of a context field, instead of the default mix; B*3 is drawn three times as often.",
        ),
    ] = None,
    users: Annotated[int, typer.Option(min=USERS.low, max=USERS.high, help="Number of users to draw from.")] = 1_000,
    seed: Annotated[int, typer.Option(min=SEED.low, max=SEED.high, help="Seed of all random draws.")] = 0,
    tear_every: Annotated[
        int,
        typer.Option(
            min=COUNT.low, max=COUNT.high, help="Tear one request in this many: header and body disagree. 0: none."
        ),
    ] = 0,
    streams: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=_ALL_PERCENT,
            help=f"Percent sent as streams, of APIs that stream; {_STREAMS} by default, 0 with --engine locust.",
        ),
    ] = None,
    edge_every: Annotated[
        int | None,
        typer.Option(
            min=COUNT.low,
            max=COUNT.high,
            help="One request in this many is an edge case of the route table: a user in an edge bucket, a value "
            f"spelled alike. 0: none; {_EDGE_EVERY} by default, none with --engine locust.",
        ),
    ] = None,
    engine: _Engine = None,
    workers: _Workers = None,
    locustfile: _Locustfile = None,
    ui: _Ui = False,
    ui_port: _UiPort = None,
    processes: Annotated[
        int,
        typer.Option(
            min=1,
            max=MAX_PROCESSES,
            help="Driver processes, among which requests are divided if one core is not enough.",
        ),
    ] = 1,
    claims: Claims = _DEFAULT_CLAIMS,
    slo: Slo = None,
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Drive load, record every request, and judge the answers. Exit status as of `lab check`.

    Example: lab load --topology gateway --rate 500 --duration 20 --payload 27000

    One of two tenants sends nine times as often: lab load --context 'tenant=ads*9,kids'

    Set the load by hand: lab load --ui

    All callers at the same time: lab load --caller all --topology mesh --rate 30 --duration 10
    """
    lab = Lab(name)
    callers = _named_callers(caller, lab)
    locust = _locust_options(engine, workers=workers, locustfile=locustfile, ui=ui, ui_port=ui_port)
    is_open_loop = locust is None and not arrivals.startswith("trace:")
    chosen = choose(rate, payload_bytes=payload, callers=len(callers), is_open_loop=is_open_loop)
    options = LoadOptions(
        topology=topology,
        caller=callers[0],
        use_cases=tuple(use_case or ()),
        rate=chosen.rate,
        duration_s=duration,
        arrivals=arrivals,
        speedup=speedup,
        limit=limit,
        payload_bytes=payload,
        users=users,
        contexts=choices_of(context),
        seed=seed,
        tear_every=tear_every,
        streams=streams if streams is not None else _STREAMS * (locust is None),
        edge_every=_EDGE_EVERY if edge_every is None else edge_every,
        locust=locust,
        processes=processes,
        terms=terms_of(claims, slo),
    )
    several = _each_with_its_own(options, callers) if len(callers) > 1 else []
    ui_to_show = options.locust.ui_port if options.locust else None
    result: RunResult | ParallelResult
    with load_shown() as shown:

        def show(progress: Progress) -> None:
            nonlocal ui_to_show
            chosen.say_once()
            if ui_to_show is not None:  # it is up once there is progress
                where = f"http://127.0.0.1:{ui_to_show}"
                text = f"Locust's UI: {where}  (STOP there, or Ctrl-C here, ends the run)"
                if as_json:
                    typer.echo(text, err=True)
                else:
                    progress_console.print(text)
                ui_to_show = None
            shown.take({options.caller: progress})

        def show_all(seen: Mapping[str, Progress]) -> None:
            chosen.say_once()
            shown.take(seen)

        if several:
            result = lab.load_parallel(several, progress=show_all)
            shown.finish({each.folder.name: each.summary for each in result.runs})
        else:
            result = lab.load(options, progress=show)
            shown.finish({options.caller: result.summary})
    _finish(result, as_json=as_json)


def check(
    run_dir: Annotated[
        Path, typer.Argument(help="Folder of a run, or of simultaneous runs, e.g. runs/default/latest.")
    ],
    checker: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Python file that adds a checker, as --plugin does.")
    ] = None,
    claims: Claims = _DEFAULT_CLAIMS,
    slo: Slo = None,
    as_json: Json = False,
) -> None:
    """Judge a run from its folder alone; needs no lab.

    Exit status 0: the claims asked for are valid, 1: one is invalid, 2: one is unknown, 3: the folder cannot be judged.

    Example: lab check runs/default/latest

    Only the latencies: lab check runs/default/latest --claims timing
    """
    terms = terms_of(claims, slo)
    folder = run_dir.resolve()
    runs = runs_in(folder)
    for file in checker or ():
        add_checker(file)
    judged = tuple(judge(each, terms=terms) for each in runs)
    _finish(judged[0] if runs == [folder] else ParallelResult(folder, judged), as_json=as_json)


def terms_of(claims: str, slo: str | None) -> Terms:
    """Parses ``--claims`` and ``--slo``.

    Raises:
        InputError: a claim is unknown, or the objective is not of the form ``availability>=99.9%``.
    """
    names = [name.strip() for name in claims.split(",") if name.strip()]
    if not names or not set(names) <= set(Claim):
        raise InputError(f"--claims: {claims!r} is no list of claims; write some of {','.join(Claim)}")
    return Terms(claims=tuple(map(Claim, names)), availability_slo=None if slo is None else _availability(slo))


def _availability(slo: str) -> float:
    found = re.fullmatch(r"\s*availability\s*>=\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*", slo)
    if found is None or not 0 < float(found[1]) <= _ALL_PERCENT:
        raise InputError(f"--slo: {slo!r} is no objective; write e.g. 'availability>=99.9%'")
    return float(found[1]) / _ALL_PERCENT


def add_checker(file: Path) -> None:
    """Adds the checker that a file defines to those that judge runs.

    Raises:
        InputError: the file cannot be run, or defines none.
    """
    before = set(CHECKERS)
    add_plugins([file])
    if set(CHECKERS) == before:
        raise InputError(f"--checker: {file}: defines no new Checker; see docs/extending/checker.md")


def _finish(result: RunResult | ParallelResult, *, as_json: bool) -> None:
    if as_json:
        print_json(result.to_document())
    elif isinstance(result, ParallelResult):
        for each in result.runs:
            console.print(f"[bold]{escape(each.folder.name)}[/bold]")
            _show(each)
        console.print(f"\nall together: [{STYLES[result.outcome]}]{result.outcome}[/]  {result.folder}")
    else:
        _show(result)
    raise typer.Exit(EXIT_STATUS[result.outcome])


def _show(result: RunResult) -> None:
    summary = result.summary
    failures = ", ".join(f"{count} {status}" for status, count in summary.by_status.items() if status != "OK")
    planned = "came due" if summary.offered is None else f"planned at {summary.offered:.1f} rps"
    console.print(
        f"{summary.planned} {planned}, achieved {summary.achieved_rate:.1f} rps: {result.counts}"
        + (f" ({failures})" if failures else "")
    )
    console.print(
        f"latency  p50 {summary.p50_ms:.2f}  p90 {summary.p90_ms:.2f}  p99 {summary.p99_ms:.2f}  "
        f"p99.9 {summary.p999_ms:.2f}  max {summary.max_ms:.2f} ms;  "
        f"schedule delay p99 {summary.schedule_delay_p99_ms:.2f} ms\n"
    )
    if (streams := summary.streams) is not None:
        console.print(
            f"streams  {streams.sent}, not in these: first item p50 {streams.first_item_p50_ms:.2f} ms from sending, "
            f"last item p50 {streams.p50_ms:.2f}  p99 {streams.p99_ms:.2f} ms\n"
        )
    if summary.by_tenant:
        console.print(table(_TENANTS, _tenant_rows(summary), right=_TENANTS[1:], folds=_TENANTS[:1]))
    rows = [
        (verdict.claim, verdict.checker, Text(verdict.outcome, STYLES[verdict.outcome]), verdict.summary)
        for verdict in sorted(result.verdicts, key=lambda each: list(Claim).index(each.claim))
    ]
    console.print(table(("claim", "checker", "verdict", "because"), rows, folds=("because",)))
    for verdict in result.verdicts:
        for violation in verdict.violations[:_SHOWN_VIOLATIONS]:
            console.print(f"  {violation.checker} #{violation.sequence}: {violation.message}", markup=False)
        if len(verdict.violations) > _SHOWN_VIOLATIONS:
            more = len(verdict.violations) - _SHOWN_VIOLATIONS
            console.print(f"  {verdict.checker}: … and {more} more; all are in --json")
    if kinds := Counter(next((kind for kind in _PLACES if place.startswith(kind)), "version") for place in result.met):
        met = ", ".join(f"{kind}: {count}" for kind, count in kinds.items())
        console.print(f"\nmet  {met}  (each is in --json)", markup=False)
    console.print(f"\n{result.sentence}", markup=False)
    console.print(f"[{STYLES[result.outcome]}]{result.outcome}[/] by {', '.join(result.asked)}; {result.seal}")
    console.print(f"{result.folder}", markup=False)


def _tenant_rows(summary: RunSummary) -> list[tuple[str, ...]]:
    return [
        (tenant or "(none)", str(of.sent), str(of.failed), f"{of.p50_ms:.2f}", f"{of.p99_ms:.2f}")
        for tenant, of in summary.by_tenant.items()
    ]


def _named_callers(text: str, lab: Lab) -> list[str]:
    """The callers that ``--caller`` lists: one, several with commas, or ``all``.

    Raises:
        InputError: the list is empty.
    """
    names = (
        list(lab.endpoints().callers) if text == _ALL else [name.strip() for name in text.split(",") if name.strip()]
    )
    if not (found := list(names)):
        raise InputError(f"--caller: {text!r} names no caller; write one, several with commas, or {_ALL}")
    return found


def _each_with_its_own(options: LoadOptions, callers: Sequence[str]) -> list[LoadOptions]:
    """The same load for each caller; each draws its own arrivals, users and contexts.

    Raises:
        InputError: use cases are given; every caller has its own.
    """
    if options.use_cases:
        raise InputError(
            "--use-case: with several callers, each calls the use cases that it may; leave it out, or name one caller"
        )
    return [replace(options, caller=name, seed=options.seed + number) for number, name in enumerate(callers)]


def choices_of(pairs: list[str] | None) -> dict[str, tuple[str, ...]]:
    """Parses ``["tenant=ads*2,kids"]`` into choices by field; the default mix if the list is empty.

    Raises:
        InputError: a pair is not of the form ``field=value,value``.
    """
    if not pairs:
        return dict(DEFAULT_CONTEXTS)
    result = {}
    for field, values in read_pairs("--context", pairs, form="field=value,value", example="device=tv,phone"):
        result[field] = tuple(choice for value in values.split(",") if value for choice in _weighted(value))
    return {field: values for field, values in result.items() if values}


def _weighted(value: str) -> tuple[str, ...]:
    """``tv*3`` is the choice ``tv``, three times."""
    choice, star, weight = value.rpartition("*")
    if not star:
        return (value,)
    if not choice or not (weight.isascii() and weight.isdecimal()) or not 0 < int(weight) <= _MAX_WEIGHT:
        raise InputError(
            f"--context: {value!r} has no valid weight; write e.g. tv*3, with a number from 1 to {_MAX_WEIGHT}"
        )
    return (choice,) * int(weight)


def _locust_options(
    engine: str | None, *, workers: int | None, locustfile: Path | None, ui: bool, ui_port: int | None
) -> LocustOptions | None:
    """Options of Locust; None for the open loop.

    Raises:
        InputError: no such engine, or an option that the chosen one does not have.
    """
    given = {"--workers": workers, "--locustfile": locustfile, "--ui": ui or None, "--ui-port": ui_port}
    chosen_by = [option for option, value in given.items() if value is not None]
    if engine is None:
        engine = _LOCUST if chosen_by else _OPEN_LOOP
    if engine not in (_OPEN_LOOP, _LOCUST):
        raise InputError(f"--engine: {engine!r} is not known; write {_OPEN_LOOP} or {_LOCUST}")
    if engine == _OPEN_LOOP:
        if chosen_by:
            raise InputError(
                f"{chosen_by[0]}: is for --engine {_LOCUST}, not for {_OPEN_LOOP}; leave one of the two out"
            )
        return None
    if ui_port is not None and not ui:
        raise InputError("--ui-port: there is no UI without --ui; add it, or leave the port out")
    return LocustOptions(
        workers=workers or 0, locustfile=locustfile or EXAMPLE, ui_port=(ui_port or _UI_PORT) if ui else None
    )
