"""``Lab``: the public interface of a lab, for the command line, scenarios, notebooks and tests."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import folder_of, keep_files_private
from lab import home as home_of_labs
from lab.client.call import CallOutcome, call
from lab.errors import InputError, LabError
from lab.faults import AuditLog, Injector, UnitOperations
from lab.identity.user import author
from lab.load.engines import ENGINES
from lab.ops import inspect
from lab.ops import traces as traces_of
from lab.ops.bringup import bring_up
from lab.ops.callers import Callers
from lab.ops.certificates import Certificates
from lab.ops.explain_request import find, story
from lab.ops.roll.executor import RollOptions, RollProgress, RollResult, execute
from lab.ops.roll.interrupts import InterruptHandler
from lab.ops.routes import Routes
from lab.ops.teardown import take_down
from lab.roles import CALLER
from lab.runs import LoadOptions, ParallelResult, RunContext, RunResult, drive, drive_parallel
from lab.runs.announced import announce
from lab.runs.drive import use_cases_of
from lab.runs.enough import requests_to_judge
from lab.runs.interim import judge_so_far
from lab.runs.listing import list_runs
from lab.runs.mixture import drive_mixture
from lab.runs.parallel import runs_in
from lab.runtime.cancellation import CancelToken
from lab.runtime.context import LabContext
from lab.runtime.state import LabState
from lab.spec import SIZES, override, read_spec, spec_file

if TYPE_CHECKING:
    from lab.client.admin_values import ControlPlaneStatus, ListedNode, Registrations
    from lab.client.traces import Span
    from lab.load.progress import Progress
    from lab.ops.inspect import LabEndpoints, LabStatus, LogLine

DEFAULT_SPEC = SIZES["default"]

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")


class Lab:
    """One lab, up or down.

    Every method but :meth:`up` and :meth:`down` raises :class:`lab.errors.LabNotRunningError` if it is down. From the
    first lab on, only this user can read the files that this process creates (umask 077).

    Args:
        name: keeps labs on one machine apart.
        home: folder in which labs keep their state and their runs; the checkout by default.

    Attributes:
        name: of the lab.
        folder: where it keeps its state.
        runs: folder that gets a folder for each run.
        routes: its route table: validate, publish, show, history, diff, rollback, explain.
        units: operations on single units: kill, start, pause, resume, partition, rejoin, scale, replace.
        faults: inject, heal, and list active faults.
        certificates: its units' certificates: show, rotate.
        callers: by which topology each caller sends its own requests: show, use.

    Raises:
        InputError: the name cannot be that of a lab.
    """

    def __init__(self, name: str = "default", home: Path | None = None) -> None:
        if not _NAME.fullmatch(name):
            raise InputError(f"--name: {name!r} cannot name a lab; write lower-case letters, digits and dashes")
        keep_files_private()
        self.name = name
        self.folder = folder_of(name, home)
        self.runs = (home or home_of_labs()) / "runs" / name
        self._context = LabContext(self.folder)
        self.routes = Routes(self._context)
        self.units = UnitOperations(self._context)
        self.faults = Injector(self.folder)
        self.certificates = Certificates(self._context)
        self.callers = Callers(self._context)

    # -- up and down ---------------------------------------------------------------------------------------------

    def up(
        self,
        *,
        spec: Path = DEFAULT_SPEC,
        routes: Path | None = None,
        topologies: Sequence[str] = (),
        picker: str = "",
        roles: Sequence[str] = (),
        security: str | None = None,
        log_requests: bool = False,
        traces: float | None = None,
        otlp: str = "",
        otlp_ca: Path | None = None,
        log_format: str = "",
        metrics: bool = False,
        runtime: str = "auto",
        options: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> list[CallOutcome]:
        """Brings the lab up, or the units of it that do not run; returns one verified call per topology.

        If it fails, or is interrupted, while the lab was down before, nothing is left behind.

        Args:
            spec: a file, or the name of one of :data:`lab.spec.SIZES`.
            routes: route table to publish first; the spec's own by default.
            topologies: instead of the spec's.
            picker: instead of the spec's.
            roles: of units that no topology needs, besides the spec's.
            security: instead of the spec's.
            log_requests: let callers, resolvers and models log requests, too; see :meth:`logs`.
            traces: share of requests to trace, 0 to 1, instead of the spec's; see :meth:`trace`.
            otlp: ``host:port`` of a receiver of OTLP that gets the spans, in place of a collector of the lab; with
                ``https://`` before it, one with TLS.
            otlp_ca: file of the certificates of the receiver's authorities, as PEM; for TLS.
            log_format: of the units' logs, ``text`` or ``json``, instead of the spec's.
            metrics: let every unit serve metrics for Prometheus; see :meth:`endpoints`.
            runtime: ``process``, ``compose``, ``kubernetes``, or ``auto`` for the best that this machine offers; a lab
                that is up stays on its own.
            options: the runtime's own, by name, see :class:`lab.runtime.RuntimeOption`.
            say: called with a line of progress before each step.

        Raises:
            InputError: spec or route table is not valid.
            UnitError: a unit did not come up, or answered wrongly.
            LabError: a lab of this name is up with another spec or on another runtime.
        """
        file = spec_file(spec).absolute()
        wanted = override(
            read_spec(file),
            topologies=topologies,
            picker=picker,
            roles=roles,
            security=security,
            log_requests=log_requests,
            traces=traces,
            otlp=otlp,
            otlp_ca=otlp_ca,
            log_format=log_format,
            metrics=metrics,
        )
        return bring_up(self._context, file, wanted, routes=routes, runtime=runtime, options=options or {}, say=say)

    def down(self) -> int:
        """Ends every unit and removes all state, also after a crash; returns the number of units ended."""
        self._context.disconnect()
        return take_down(self.folder)

    # -- looking -------------------------------------------------------------------------------------------------

    def status(self, *, memory: bool = False) -> LabStatus:
        """The state of every unit, and with ``memory`` its memory use. A unit that has crashed is ``exited``."""
        return inspect.status(self._context, memory=memory)

    def control_plane_status(self) -> ControlPlaneStatus | None:
        """The control plane's own status, without that of the units; None if it does not answer."""
        return inspect.control_plane_status(self._context)

    def registrations(self) -> list[Registrations]:
        """When which model replicas were registered, as each control plane that answers knows it."""
        return inspect.registrations(self._context)

    def endpoints(self) -> LabEndpoints:
        """The addresses of everything, for outside clients."""
        return inspect.endpoints(self._context)

    def xds_bootstrap(self, caller: str) -> dict[str, Any]:
        """The xDS bootstrap for an outside client whose gRPC library routes by itself in this caller's name.

        Raises:
            InputError: the lab has no such caller.
        """
        return inspect.xds_bootstrap(self._context, caller)

    def nodes(self) -> list[ListedNode]:
        """The nodes of the control plane that are planned, admitted or refused."""
        with self._context.admin() as admin:
            return admin.nodes()

    def admit_node(self, node: str, caller: str = "") -> str:
        """Admits a node that the lab did not plan, and returns the caller for which it may act.

        Args:
            node: its name.
            caller: left out, the one that was refused under this name, or begins it.

        Raises:
            InputError: there is no such caller, or it must be named.
        """
        with self._context.admin() as admin:
            return admin.admit_node(node, caller)

    def audit(self, last: int = 0) -> AuditLog:
        """The latest ``last`` entries of the audit log, or all for 0: the control plane's and the lab's own."""
        return inspect.audit(self._context, last)

    def logs(self, request_id: str) -> list[LogLine]:
        """The lines that units logged about one request, in the order of its path.

        Raises:
            InputError: no unit of this lab has logged it.
        """
        return inspect.logs(self._context, request_id)

    def explain(self, request_id: str, folder: Path | None = None) -> dict[str, Any]:
        """The story of one request of a run, as JSON; see :mod:`lab.ops.explain_request`. The lab need not be up.

        Args:
            request_id: of the request.
            folder: of its run, or of simultaneous runs; None to look in all of this lab's, newest first.

        Raises:
            InputError: no run has it.
            RunError: a run cannot be read.
        """
        listed = list_runs(self.runs) if folder is None else []
        folders = [self.runs / each.run for each in listed] if folder is None else runs_in(folder)
        run, record = find(request_id, folders)
        table = next((each.document for each in run.revisions if each.revision == record.revision), None)
        lines: list[LogLine] = []
        logging: set[str] = set()
        with suppress(LabError):  # it is down, or none of its units has logged it
            logging = {unit.role for unit in LabState.of(self.folder).plan.units if unit.logs_requests}
            lines = self.logs(request_id)
        return story(record, table, lines, logging)

    def trace(self, name: str) -> list[Span]:
        """The spans of one request, by their start; the lab must have been brought up with ``traces``.

        Args:
            name: the request's id, or that of its trace.

        Raises:
            InputError: there is no such trace; says why.
        """
        return traces_of.spans(self._context, name)

    # -- calling -------------------------------------------------------------------------------------------------

    def call(
        self,
        use_case: str,
        *,
        topology: str,
        caller: str,
        context: Mapping[str, str] | None = None,
        payload_bytes: int = 400,
    ) -> CallOutcome:
        """Makes one call as a caller.

        Raises:
            InputError: no such caller or topology in this lab, or the caller has no service.
            CallError: the call failed; carries its gRPC status.
        """
        state = LabState.of(self.folder)
        _check(state, topology, caller)
        services = {unit.name: unit.address for unit in state.plan.with_role(CALLER)}
        if caller not in services:
            raise InputError(
                f"--caller: {caller!r} has no service in this lab that could make the call; "
                f"send load in its place: lab load --caller {caller}"
            )
        return call(services[caller], use_case, topology, context or {}, payload_bytes=payload_bytes)

    def announce(self, prefix: str, what: str) -> None:
        """Announces requests of another program whose ids are this prefix, a dash, and anything without a dash.

        A run objects to requests that nobody has announced.
        """
        announce(self.folder, prefix, what)

    def load(
        self,
        options: LoadOptions,
        *,
        progress: Callable[[Progress], None] = lambda _: None,
        cancel_token: CancelToken | None = None,
    ) -> RunResult:
        """Drives load as a caller, records every request, and judges the answers.

        Args:
            options: of the load.
            progress: called about twice a second.
            cancel_token: cancels the load from another thread.

        Raises:
            InputError: the options do not fit the lab or its route table.
            UnitError: the driver failed.
        """
        state = LabState.of(self.folder)
        _check(state, options.topology, options.caller)
        return drive(options, self._run_context(state), progress, cancel_token)

    def spread(self, options: LoadOptions) -> list[LoadOptions]:
        """Returns the runs, for :meth:`load_parallel`, in which the load's engine drives it: mostly one, as it is.

        Raises:
            InputError: the engine cannot drive it in this lab.
        """
        spread = ENGINES[options.engine.name].spread
        return [options] if spread is None else spread(options, LabState.of(self.folder))

    def duration_to_judge(self, options: LoadOptions) -> tuple[float, str]:
        """How long a load must be, in seconds at its rate, so that each share of the table in force can be judged.

        The second is the share that needs most, in words; 0 and no words without a split or an experiment.

        Raises:
            InputError: the options do not fit the lab or its route table.
        """
        _check(LabState.of(self.folder), options.topology, options.caller)
        document = self.routes.show().document or {"use_cases": {}}
        requests, share = requests_to_judge(document, options, [each.name for each in use_cases_of(options, document)])
        return requests / options.rate, share

    def load_parallel(
        self,
        options: Sequence[LoadOptions],
        *,
        progress: Callable[[Mapping[str, Progress]], None] = lambda _: None,
        cancel_token: CancelToken | None = None,
    ) -> ParallelResult:
        """Drives several runs at the same time, e.g. one per caller; otherwise as :meth:`load`.

        Args:
            options: one per run; no two of the same topology and caller.
            progress: called with the progress of each run, by its name.
            cancel_token: cancels all runs from another thread.

        Raises:
            InputError: options do not fit the lab or its route table, or do not go together.
            UnitError: a driver failed; the others were cancelled.
        """
        state = LabState.of(self.folder)
        for each in options:
            _check(state, each.topology, each.caller)
        return drive_parallel(options, self._run_context(state), progress, cancel_token or CancelToken())

    def load_mixture(
        self,
        options: Sequence[LoadOptions],
        *,
        progress: Callable[[Mapping[str, Progress]], None] = lambda _: None,
        cancel_token: CancelToken | None = None,
    ) -> ParallelResult:
        """Drives callers at the same time, each by the topology that it uses, also if :attr:`callers` moves it.

        Args:
            options: one for each caller; their topology is ignored.
            progress: called with the progress of each run, by its name; a caller that is moved has several.
            cancel_token: ends all runs from another thread.

        Raises:
            InputError: the options do not fit the lab or its route table.
            UnitError: a driver failed; the others were ended.
        """
        before = self.callers.show()
        for each in options:
            _check(LabState.of(self.folder), before.get(each.caller, ""), each.caller)
        return drive_mixture(
            options,
            lambda: self._run_context(LabState.of(self.folder)),
            lambda caller: self.callers.moved().get(caller, before[caller]),
            progress,
            cancel_token or CancelToken(),
        )

    def judge_so_far(self, folder: Path) -> RunResult:
        """Judges what a run has done so far, while it goes on; see :func:`lab.runs.interim.judge_so_far`.

        Raises:
            RunError: the run has ended, or its folder cannot be read.
        """
        return judge_so_far(folder, self._run_context(LabState.of(self.folder)))

    def roll(self, options: RollOptions, *, progress: Callable[[RollProgress], None] = lambda _: None) -> RollResult:
        """Shifts a model's traffic to another version in steps, and rolls back if a step is bad.

        Raises:
            InputError: the options do not fit the lab or its route table; nothing was published.
        """
        state = LabState.of(self.folder)
        _check(state, options.probe.topology, options.probe.caller or None)
        with InterruptHandler() as interrupts, self._context.admin(state) as admin:
            return execute(
                options,
                admin=admin,
                author=author(),
                callers=state.plan.callers,
                load=lambda load, report: self.load(load, progress=report),
                interrupts=interrupts,
                progress=progress,
            )

    # -- within --------------------------------------------------------------------------------------------------

    def _run_context(self, state: LabState) -> RunContext:
        return RunContext(
            state=state,
            runtime=self._context.runtime(state),
            runs=self.runs,
            units=self.folder / "units",
            in_force=cache(self.routes.show),
            revisions=lambda since_ns, named: self.routes.history(tables=True, since_ns=since_ns, named=named),
            registrations=self.registrations,
            replicas=lambda: LabState.of(self.folder).plan.with_role("model"),
        )


def _check(state: LabState, topology: str, caller: str | None) -> None:
    if topology not in state.topologies:
        raise InputError(f"--topology: {topology!r} is not up; there are {', '.join(state.topologies)}")
    if caller is not None and caller not in state.plan.callers:
        raise InputError(f"--caller: {caller!r} is not in this lab; there are {', '.join(state.plan.callers)}")
