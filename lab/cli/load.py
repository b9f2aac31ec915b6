"""``lab load``."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lab.bounds import COUNT, RATE, REQUESTS, SECONDS, SEED, SPEEDUP, USERS
from lab.cli.check import DEFAULT_CLAIMS, Claims, Slo, objectives_of
from lab.cli.knee import knee
from lab.cli.options import ALL_PERCENT, DEFAULT_TOPOLOGY, Json, Name, completed_by, read_pairs, with_options
from lab.cli.output import progress_console
from lab.cli.progress import load_shown
from lab.cli.rate import LONGEST_S, SHORTEST_S, choose, choose_duration
from lab.cli.rate import RATE as IDLE_RATE
from lab.cli.verdicts import EXIT_STATUS, finish
from lab.errors import InputError
from lab.lab import Lab
from lab.load.engines import ENGINES
from lab.load.plan import MAX_PROCESSES, OPEN_LOOP, EnginePlan
from lab.load.trace import MAX_PAYLOAD_BYTES
from lab.runs import LoadOptions, ParallelResult, RunResult
from lab.runs.drive import DEFAULT_CONTEXTS
from lab.runs.knee import ANSWERED, SLOWER, Objective

if TYPE_CHECKING:
    from lab.load.progress import Progress


_ALL = "all"
_OWN = "own"
_MAX_WEIGHT = 1_000
_STREAMS = 10
_EDGE_EVERY = 10


def load(
    topology: Annotated[
        str,
        typer.Option(
            help="Topology, the path from caller to model; several with commas get the same load at the same time; "
            "own: each caller's own, see lab callers.",
            autocompletion=completed_by("topologies"),
        ),
    ] = DEFAULT_TOPOLOGY,
    rate: Annotated[
        float | None,
        typer.Option(
            min=RATE.low,
            max=RATE.high,
            help=f"Requests per second; what this machine can take, {IDLE_RATE:g} at most, if left out.",
        ),
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(
            min=SECONDS.low,
            max=SECONDS.high,
            help=f"Seconds; if left out, {SHORTEST_S:g} to {LONGEST_S:g}, by the table's smallest share.",
        ),
    ] = None,
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
            max=ALL_PERCENT,
            help="Percent of requests to send as streams, where the API has them; "
            f"{_STREAMS} by default, 0 with an engine that does not ask as drawn.",
        ),
    ] = None,
    edge_every: Annotated[
        int | None,
        typer.Option(
            min=COUNT.low,
            max=COUNT.high,
            help="One request in this many is an edge case of the route table: a user in an edge bucket, a value "
            f"spelled alike. 0: none; {_EDGE_EVERY} by default, none with an engine that does not ask as drawn.",
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help=f"{OPEN_LOOP.name} by default, or the one whose options are given; see above."),
    ] = None,
    drivers: Annotated[
        int,
        typer.Option(
            min=1,
            max=MAX_PROCESSES,
            help="Drivers that share the requests, if one core is not enough: each with its clock and records, see "
            "docs/load.md.",
        ),
    ] = 1,
    find_knee: Annotated[
        bool,
        typer.Option(
            "--find-knee",
            help="From --rate on, find the rate at which the objective or the driver breaks, and say which.",
        ),
    ] = False,
    p99_ms: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            max=SECONDS.high * 1_000,
            help=f"Objective of --find-knee beside --slo; {SLOWER:g} times the p99 of the first rate by default.",
        ),
    ] = None,
    claims: Claims = DEFAULT_CLAIMS,
    slo: Slo = None,
    name: Name = "default",
    as_json: Json = False,
    **options_of_engines: Any,
) -> None:
    """Drive load, record every request, and judge the answers. Exit status as of `lab check`.

    Example: lab load --topology gateway --rate 500 --duration 20 --payload 27000

    One of two tenants sends nine times as often: lab load --context 'tenant=ads*9,kids'

    All callers at the same time: lab load --caller all --topology mesh,gateway --rate 30 --duration 10

    Each caller by its own topology, which `lab callers use` changes: lab load --topology own --caller all --rate 20

    The highest rate that holds: lab load --find-knee --topology mesh --rate 50 --duration 10 --p99-ms 20
    """
    lab = Lab(name)
    callers = _named_callers(caller, lab)
    topologies = _named_topologies(topology, lab, callers)
    given = {
        keyword: value for keyword, value in options_of_engines.items() if value is not None and value is not False
    }
    driven = _engine_plan(engine, given)
    is_open_loop = driven.as_drawn and not arrivals.startswith("trace:")
    chosen = choose(rate, payload_bytes=payload, callers=len(callers) * len(topologies), is_open_loop=is_open_loop)
    options = LoadOptions(
        topology=topologies[0],
        caller=callers[0],
        use_cases=tuple(use_case or ()),
        rate=chosen.rate,
        duration_s=duration or SHORTEST_S,
        arrivals=arrivals,
        speedup=speedup,
        limit=limit,
        payload_bytes=payload,
        users=users,
        contexts=choices_of(context),
        seed=seed,
        tear_every=tear_every,
        streams=streams if streams is not None else _STREAMS * driven.as_drawn,
        edge_every=_EDGE_EVERY if edge_every is None else edge_every,
        engine=driven,
        drivers=drivers,
        objectives=objectives_of(claims, slo),
    )
    if find_knee:
        if not is_open_loop or len(callers) * len(topologies) > 1:
            raise InputError(
                "--find-knee: needs one caller, one topology and an open loop at a rate; leave the others out"
            )
        chosen.say_once()
        answered = options.objectives.availability_slo or ANSWERED
        outcome = knee(lab, options, Objective(answered, p99_ms), as_json=as_json)
        raise typer.Exit(EXIT_STATUS[outcome])
    if p99_ms is not None:
        raise InputError("--p99-ms: is an objective of --find-knee; add that, or leave the bound out")
    every = [replace(each, topology=one) for one in topologies for each in _each_with_its_own(options, callers)]
    several = [run for each in every for run in lab.spread(each)]
    if duration is None and is_open_loop:
        duration_s = choose_duration(map(lab.duration_to_judge, several), chosen.said)
        several = [replace(each, duration_s=duration_s) for each in several]
    ui_to_show = driven.ui_port
    result: RunResult | ParallelResult
    with load_shown() as shown:

        def show(progress: Progress) -> None:
            nonlocal ui_to_show
            chosen.say_once()
            if ui_to_show is not None:  # it is up once there is progress
                where = f"http://127.0.0.1:{ui_to_show}"
                text = f"UI of {driven.name}: {where}  (Ctrl-C here ends the run, as the UI can)"
                if as_json:
                    typer.echo(text, err=True)
                else:
                    progress_console.print(text)
                ui_to_show = None
            shown.take({options.caller: progress})

        def show_all(seen: Mapping[str, Progress]) -> None:
            chosen.say_once()
            shown.take(seen)

        if len(several) > 1 or topology == _OWN:
            drive = lab.load_mixture if topology == _OWN else lab.load_parallel
            result = drive(several, progress=show_all)
            shown.finish({each.folder.name: each.summary for each in result.runs})
        else:
            result = lab.load(several[0], progress=show)
            shown.finish({options.caller: result.summary})
    finish(result, as_json=as_json)


def _named_callers(text: str, lab: Lab) -> list[str]:
    """The callers that ``--caller`` lists: one, several with commas, or ``all``.

    Raises:
        InputError: the list is empty.
    """
    names = (
        list(lab.endpoints().clients) if text == _ALL else [name.strip() for name in text.split(",") if name.strip()]
    )
    if not (found := list(names)):
        raise InputError(f"--caller: {text!r} names no caller; write one, several with commas, or {_ALL}")
    return found


def _named_topologies(text: str, lab: Lab, callers: Sequence[str]) -> list[str]:
    """The topologies that ``--topology`` lists; for ``own`` that of the first caller, whose use cases are judged.

    Raises:
        InputError: the list is empty, or names one twice.
    """
    if text == _OWN:
        return [lab.callers.show().get(callers[0], "")]
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise InputError(
            f"--topology: {text!r} is not a list of different topologies; write one, or several with commas"
        )
    return names


def _each_with_its_own(options: LoadOptions, callers: Sequence[str]) -> list[LoadOptions]:
    """The same load for each caller; each draws its own arrivals, users and contexts.

    Raises:
        InputError: use cases are given; every caller has its own.
    """
    if options.use_cases and len(callers) > 1:
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


def _engine_plan(name: str | None, given: Mapping[str, Any]) -> EnginePlan:
    """The engine's part of the plan: that of ``--engine``, else of the first that has the options which are given.

    Args:
        name: of the engine; None if none is named.
        given: options of engines, by keyword.

    Raises:
        InputError: no such engine, or an option that it does not have.
    """
    own = {each.name: {option.keyword for option in each.options} for each in ENGINES.values()}
    if name is None and given:
        having_all = (each for each in own if given.keys() <= own[each])
        name = next(having_all, next(each for each in own if given.keys() & own[each]))
    chosen = ENGINES[name or OPEN_LOOP.name]
    if strange := [keyword for keyword in given if keyword not in own[chosen.name]]:
        other = next(each for each in own if strange[0] in own[each])
        raise InputError(
            f"--{strange[0].replace('_', '-')}: is for --engine {other}, not for {chosen.name}; leave one out"
        )
    return replace(chosen.plan(**given), name=chosen.name)


def _option_parameters(taken: Collection[str]) -> Iterator[inspect.Parameter]:
    """One parameter for each option of an engine, in a panel that says which engine it chooses.

    Raises:
        InputError: an option is one that the command has for every engine, the ``taken`` ones.
    """
    seen: set[str] = set()
    for engine in ENGINES.values():
        for option in engine.options:
            if option.keyword in taken:
                raise InputError(f"engine {engine.name}: --{option.name} is an option of every engine; rename it")
            if option.keyword in seen:
                continue
            seen.add(option.keyword)
            low, high = option.within or (None, None)
            panel = f"Engine {engine.name}; each of these chooses it"
            info = typer.Option(f"--{option.name}", min=low, max=high, help=option.help, rich_help_panel=panel)
            kind, default = (bool, False) if option.type is bool else (option.type | None, None)
            yield inspect.Parameter(
                option.keyword, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info]
            )


def _describe_engines() -> None:
    """Adds the options of every engine to the command, and what each is to its help."""
    with_options(load, _option_parameters(inspect.signature(load).parameters))
    engines = "\n".join(f"{name}: {each.summary}" for name, each in ENGINES.items())
    load.__doc__ = f"{inspect.getdoc(load)}\n\n\b\nEngines:\n{engines}"


_describe_engines()
