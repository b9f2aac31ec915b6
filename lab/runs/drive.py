"""Drives load through a lab that is up: plans, drives, saves the evidence, judges."""

from __future__ import annotations

import secrets
import shutil
import urllib.request
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.checkers import CHECKERS
from lab.checkers.plain_models import receipt_keys
from lab.checkers.revision_timeline import SETTLING_NS
from lab.errors import InputError, LabNotRunningError, UnitError
from lab.load.arrivals import ArrivalOptions, parse_arrivals
from lab.load.plan import CHOSEN_FIELDS, OPEN_LOOP, EdgeCase, EnginePlan, LoadPlan, UseCase
from lab.load.progress import Progress
from lab.roles import ARRIVALS, ROLES
from lab.roles.resolver import RESOLVER
from lab.runs.announced import announce, announced
from lab.runs.asked import asked_of
from lab.runs.documents import Began, Window
from lab.runs.edge_cases import edge_cases
from lab.runs.events import events_since, lab_events
from lab.runs.evidence import planned_in
from lab.runs.folder import DRIVER, SPOOL, RunFolder, create, new_run_folder, require_free
from lab.runs.judging import DEFAULT_OBJECTIVES, Objectives, judge
from lab.runs.load_metrics import counting
from lab.runs.published import keeps_text, kept_texts
from lab.runs.seal import provide_key, seal
from lab.runs.unit_evidence import arrivals_at, probing, questions_at, units_on_path
from lab.runs.version import machine_versions
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from lab.client import Endpoints
    from lab.client.admin_values import Registrations, RevisionInfo
    from lab.history import Record
    from lab.history.arrivals import Arrivals
    from lab.roles import Unit
    from lab.runs.judging import RunResult
    from lab.runtime import Runtime
    from lab.runtime.cancellation import CancelToken
    from lab.runtime.state import LabState

_SIDECAR_TIMEOUT_S = 2.0

# With these, every rule of the default route table applies to some users.
DEFAULT_CONTEXTS: Mapping[str, tuple[str, ...]] = {
    "device": ("tv", "phone", "web"),
    "country": ("US", "CA", "DE", "FR", "IN"),
    "segment": ("adults", "kids"),
    "surface": ("home_page",),
    "tenant": ("consumer",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """The load of one run.

    Attributes:
        topology: of all requests.
        caller: that sends them.
        use_cases: of the requests; all that the caller may use if empty.
        rate: requests per second; ignored for a trace.
        duration_s: seconds; ignored for a trace.
        arrivals: ``poisson``, ``constant`` or ``trace:FILE``.
        speedup: factor by which a trace is played faster than recorded.
        limit: number of requests of a trace to play; None for all.
        payload_bytes: size of feature vectors; a trace brings its own.
        users: number of distinct users.
        contexts: values of each context field, one of which is drawn for each request.
        seed: of all draws.
        timeout_s: of a request, seconds.
        tear_every: tears one request in this many on purpose; 0 for none.
        drivers: number of drivers that share the requests, each with clock and records of its own.
        streams: percent of requests that are sent as streams, where the API can; none unless asked for, because a
            measurement compares single responses.
        edge_every: one request in this many is an edge case of the route table, see :mod:`lab.runs.edge_cases`; 0 for
            none. Contexts other than the default vary only in the fields with several choices.
        edge_cases: to use instead of the route table's.
        endpoints: addresses to use instead of the caller's own sidecar, resolver and gateways.
        engine: that drives it, with its options, as :attr:`lab.load.engines.Engine.plan` returns it.
        objectives: what the run is asked.
        id_prefix: of the ids of its requests; drawn if empty.
    """

    topology: str
    caller: str
    use_cases: tuple[str, ...] = ()
    rate: float = 100.0
    duration_s: float = 10.0
    arrivals: str = "poisson"
    speedup: float = 1.0
    limit: int | None = None
    payload_bytes: int = 400
    users: int = 1_000
    contexts: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: DEFAULT_CONTEXTS)
    seed: int = 0
    timeout_s: float = 10.0
    tear_every: int = 0
    drivers: int = 1
    streams: int = 0
    edge_every: int = 0
    edge_cases: tuple[EdgeCase, ...] = ()
    endpoints: Endpoints | None = None
    engine: EnginePlan = OPEN_LOOP
    objectives: Objectives = DEFAULT_OBJECTIVES
    id_prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """The lab that a run is driven through.

    Attributes:
        state: of the lab.
        runtime: that starts the driver.
        runs: folder of this lab's runs.
        units: folder of its units' logs, in the lab's own folder.
        in_force: returns the revision in force, with its route table. It is called before the run.
        revisions: returns the revisions that had not been replaced by a time (Unix nanoseconds), and those with the
            given numbers. It is called after the run.
        registrations: returns when which replicas were registered, as each control plane that answers knows it. It is
            called before and after the run.
        replicas: returns the model replicas. It is called after the run.
        since_ns: when the run began for which checkers gather evidence, Unix nanoseconds; 0 before.
    """

    state: LabState
    runtime: Runtime
    runs: Path
    units: Path
    in_force: Callable[[], RevisionInfo]
    revisions: Callable[[int, Collection[int]], list[RevisionInfo]]
    registrations: Callable[[], list[Registrations]]
    replicas: Callable[[], list[Unit]]
    since_ns: int = 0

    @property
    def spec(self) -> dict[str, Any]:
        """The lab's spec, as a run keeps it, without secrets; the store's address may contain a password."""
        return self.state.spec.model_dump(mode="json", exclude={"store", "receipt_key"})

    def arrivals(self, records: Collection[Record], since_ns: int) -> Arrivals:
        """Returns what model replicas received since a time (Unix nanoseconds), those that are gone included."""
        replicas = {each.name: each for each in self.replicas()}

        def file_of(replica: str) -> Path:
            if replica in replicas:
                self.runtime.fetch_file(replicas[replica], ARRIVALS)
            return self.units / replica / ARRIVALS

        gone = {file.parent.name for file in self.units.glob(f"*/{ARRIVALS}")} - set(replicas)
        return arrivals_at(replicas.values(), records, since_ns=since_ns, file_of=file_of, gone=sorted(gone))


def drive(
    options: LoadOptions,
    context: RunContext,
    progress: Callable[[Progress], None],
    cancel_token: CancelToken | None = None,
    folder: Path | None = None,
) -> RunResult:
    """Drives one run and returns its result.

    Args:
        options: the load.
        context: the lab.
        progress: called once a second.
        cancel_token: cancels the run from another thread.
        folder: of the run, which this makes; one of the lab's runs if left out.

    Raises:
        InputError: the options do not fit the lab or its route table.
        UnitError: the driver failed.
    """
    run = RunFolder(folder or new_run_folder(context.runs))
    plan = plan_for(options, context)
    if folder is None:
        create(run.path)
    else:
        folder.mkdir()
    run.asked = asked_of(options)
    save_plan(run, plan, context)
    registered = context.registrations()
    began = Began.now()
    table = run.revisions[-1].document or {}
    with probing(run, context.state, plan, table), counting(context.state.plan.load_metrics) as of_run:
        count = of_run(plan.topology, plan.caller)

        def report(line: str) -> None:
            reported = Progress.from_line(line)
            count(reported)
            progress(reported)

        status = context.runtime.run_driver(run.path, options.caller, report, plan.engine.ui_port, cancel_token)
    records = save_evidence(run, context, registered, began=began)
    save_surroundings(run, context)
    return judge_run(run, status, options.objectives, provide_key(context.units.parent), records)


def plan_for(options: LoadOptions, context: RunContext) -> LoadPlan:
    """Returns the driver's plan; creates nothing.

    Raises:
        InputError: the options do not fit the lab or its route table, or the trace is invalid.
    """
    document = context.in_force().document or {}
    use_cases = use_cases_of(options, document)
    edge_every = options.edge_every if options.engine.as_drawn else 0
    plan = LoadPlan(
        topology=options.topology,
        caller=options.caller,
        use_cases=use_cases,
        arrivals=parse_arrivals(
            options.arrivals,
            ArrivalOptions(
                rate=options.rate,
                duration_s=options.duration_s,
                seed=options.seed,
                speedup=options.speedup,
                limit=options.limit,
            ),
        ),
        endpoints=options.endpoints or _endpoints(options, context),
        spool=Path(SPOOL),
        summary=Path(DRIVER),
        payload_bytes=options.payload_bytes,
        seed=options.seed,
        users=options.users,
        contexts=options.contexts,
        timeout_s=options.timeout_s,
        tear_every=options.tear_every,
        engine=options.engine,
        drivers=options.drivers,
        streams=options.streams,
        edge_every=edge_every,
        id_prefix=options.id_prefix or secrets.token_hex(4),
        edge_cases=options.edge_cases or (_edge_cases(options, document, use_cases) if edge_every else ()),
    )
    require_free(plan)
    if plan.engine.scheduled:
        plan.schedule()  # raises for a bad trace, before anything is created
    return plan


def save_plan(run: RunFolder, plan: LoadPlan, context: RunContext) -> None:
    """Saves what a run is to do and by which route table, before it begins.

    A control plane that loses its store during the run no longer knows the table that the run began with.
    """
    run.plan = plan
    in_force = context.in_force()
    run.expected = expected_of(plan, context, in_force.revision)
    announce(context.units.parent, plan.id_prefix, f"run {run.path.name}")
    if planned := planned_in(run):
        run.planned = planned.requests
    run.revisions = [in_force]


def expected_of(plan: LoadPlan, context: RunContext, revision: int) -> dict[str, str]:
    """Returns the checkers that must give a verdict on a run, and why, as topology, lab and options declare them.

    Args:
        plan: of the run.
        context: the lab.
        revision: in force.
    """
    topology = TOPOLOGIES[plan.topology]
    roles = [ROLES[name] for name in topology.roles if context.state.plan.with_role(name)]
    of_roles = {checker: f"{plan.topology} has a {role.name}" for role in roles for checker in role.checked_by}
    if not all(role.marks_path for role in map(ROLES.__getitem__, topology.between)):
        of_roles.pop("path", None)
    of_lab = {"times": "replicas say when they answered"}
    if keeps_text(context.units.parent, revision):
        of_lab["table"] = "the lab keeps each text that it publishes"
    return {**of_lab, **of_roles, **plan.checked_by}


def save_evidence(
    run: RunFolder, context: RunContext, registered: Sequence[Registrations], *, began: Began
) -> list[Record]:
    """Saves, in a run's folder, all evidence that checkers need and that can be had, and returns the history.

    A control plane that does not answer leaves a run without its revisions: the folder then says so.

    Args:
        run: its folder.
        context: the lab.
        registered: the registrations when the run began.
        began: when the run did.
    """
    run.window = Window.since(began)
    records = run.save_history()
    save_lab(run, context, records, registered, from_ns=began.unix_ns)
    units = context.state.plan.units
    arrivals = run.arrivals = context.arrivals(records, began.unix_ns)
    run.announced = announced(context.units.parent, arrivals.requests, [each.name for each in units])
    run.path_units = units_on_path(units, run.plan)
    # Of all resolvers, as a caller may ask another than its own.
    run.questions = questions_at([each for each in units if each.role == RESOLVER], since_ns=began.unix_ns)
    gather(run, replace(context, since_ns=began.unix_ns))
    return records


def gather(run: RunFolder, context: RunContext) -> None:
    """Saves what checkers gather; what one cannot gather is missing, with the reason."""
    for checker in CHECKERS.values():
        if checker.gather is not None:
            try:
                if (found := checker.gather(context)) is not None:
                    run.gathered = {checker.name: found}
            except Exception as error:  # noqa: BLE001 (of code from outside)
                run.missing = {**run.missing, f"evidence of {checker.name}": f"{type(error).__name__}: {error}"}


def save_lab(
    run: RunFolder, context: RunContext, records: Sequence[Record], registered: Sequence[Registrations], *, from_ns: int
) -> None:
    """Saves, in a run's folder, what the lab knows of the time of a run: spec, events, tables, registrations.

    Args:
        run: its folder, with the revisions that were in force when it began.
        context: the lab.
        records: of the run, which name revisions.
        registered: the registrations when the run began.
        from_ns: when it began.
    """
    run.spec = context.spec
    run.receipt_keys = receipt_keys(context.state.spec.receipt_key, (record.request_id for record in records))
    run.events = events_since(lab_events(context.units.parent), from_ns)
    named = {number for record in records for number in (record.revision, record.served_revision)}
    named |= {probe.revision for probe in run.probes}
    tables: Sequence[RevisionInfo] = ()
    try:
        tables = context.revisions(from_ns - SETTLING_NS, named)
    except LabNotRunningError as error:
        run.missing = {RunFolder.revisions.name: str(error)}
    run.published = kept_texts(context.units.parent, run.add_revisions(tables))
    run.registrations = {"asked_ns": from_ns, "before": registered, "after": context.registrations()}


def save_surroundings(run: RunFolder, context: RunContext) -> None:
    """Saves, in a run's folder, versions, and logs and Envoys' configuration, which may explain a verdict."""
    context.runtime.fetch_logs(context.state.plan.units)
    run.versions = machine_versions(context.runtime.versions())
    for log in context.units.glob("*/*log"):
        target = run.path / "units" / log.parent.name / log.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, target)
    sidecars = run.path / "sidecars"
    sidecars.mkdir(exist_ok=True)
    for unit in context.state.plan.units:
        if unit.admin is None:
            continue
        for name, path in (("config_dump", "/config_dump?include_eds"), ("stats", "/stats?format=json")):
            try:
                with urllib.request.urlopen(f"http://{unit.admin.outside}{path}", timeout=_SIDECAR_TIMEOUT_S) as answer:
                    (sidecars / f"{unit.name}.{name}.json").write_bytes(answer.read())
            except OSError as error:  # it may be down, and the run's folder should say so
                (sidecars / f"{unit.name}.{name}.error").write_text(str(error))


def judge_run(
    run: RunFolder,
    status: int,
    objectives: Objectives,
    key: Ed25519PrivateKey,
    records: Sequence[Record] | None = None,
) -> RunResult:
    """Seals a run whose evidence is saved, judges it, and writes its summary.

    Args:
        run: its folder.
        status: the driver's exit status.
        objectives: what is asked of it.
        key: the lab's, to sign with.
        records: its history, if the caller has read it already.

    Raises:
        UnitError: the driver failed.
    """
    seal(run, key)
    if problem := problem_of_driver(run, status):
        raise problem
    result = judge(run.path, records, objectives=objectives)
    run.summary = result.to_document()
    seal(run, key)
    return result


def problem_of_driver(run: RunFolder, status: int) -> UnitError | None:
    """Returns what is wrong with a driver that ended with this status; None if it came to its end."""
    # The status is 0 where another part of this process has reaped the driver, as a kill of it does.
    if (run.path / DRIVER).exists():
        return None
    return UnitError(f"the driver ended with status {status}; what it sent until then is in {run.path}")


def _endpoints(options: LoadOptions, context: RunContext) -> Endpoints:
    endpoints = context.state.plan.callers[options.caller]
    if options.drivers == 1:
        return endpoints
    return context.runtime.endpoints_of_drivers(options.caller, endpoints)


def _edge_cases(
    options: LoadOptions, document: Mapping[str, Any], use_cases: Sequence[UseCase]
) -> tuple[EdgeCase, ...]:
    chosen = options.contexts
    fixed = [each for each in CHOSEN_FIELDS if chosen != DEFAULT_CONTEXTS and len(set(chosen.get(each, ()))) <= 1]
    return edge_cases(document, [each.name for each in use_cases], options.caller, options.contexts, fixed)


def use_cases_of(options: LoadOptions, document: Mapping[str, Any]) -> tuple[UseCase, ...]:
    """Returns the use cases of a load: those that are named, else all that the caller may use.

    Raises:
        InputError: one is not in the route table, or there are none.
    """
    known = document["use_cases"]
    names = options.use_cases or tuple(name for name, entry in known.items() if options.caller in entry["callers"])
    for name in names:
        if name not in known:
            raise InputError(f"--use-case: {name!r} is not in the route table; there are {', '.join(known)}")
    if not names:
        raise InputError(
            f"--caller: {options.caller} is not allowed any use case: add it to the `callers` of one and publish"
        )
    return tuple(UseCase(name, known[name]["api"]) for name in names)
