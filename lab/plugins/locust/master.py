"""The driver's process in a Locust run: starts the workers, begins and ends the run, and sums their results."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event

from lab import PYTHON
from lab.errors import UnitError
from lab.history import SpoolWriter
from lab.load.arrivals import WHOLE
from lab.load.open_loop import STOP_GRACE_S, Start
from lab.load.progress import ProgressLines
from lab.load.steps import print_progress, write_summary
from lab.load.stop_signals import take
from lab.load.summary import ShardResult, combine
from lab.plugins.locust.ui import open_ui
from lab.plugins.locust.user_process import (
    FAILED,
    GO,
    MASTER_HOST,
    PROGRESS,
    RESULT,
    STOP,
    UserProcess,
    WorkerProgress,
    environment_of,
    on_message,
)

if TYPE_CHECKING:
    from lab.load.plan import LoadPlan

NS = 1_000_000_000

_PROGRESS_EVERY_S = 1.0
_POLL_S = 0.02
_END_WITHIN_S = 5.0
_READY_WITHIN_S = 60.0  # a worker first connects and warms up
_SPAWNED_WITHIN_S = 60.0
_LEAD_NS = 50_000_000  # between "go" and the start of the schedule, for all users to queue their first request
_LEAD_PER_USER_NS = 100_000
_ABANDONED_S = 2.0  # beyond the longest timeout of a request
_RESULTS_WITHIN_S = STOP_GRACE_S + 10.0


class Workers:
    """Worker processes; none if users run in the driver.

    Args:
        plan: the plan's file.
        count: number of workers.
        port: of the master.
    """

    def __init__(self, plan: Path, count: int, port: int) -> None:
        self._processes = [
            subprocess.Popen(
                [*PYTHON, "-m", "lab.plugins.locust.user_process", str(plan), f"{index}/{count}", str(port)],
                stdin=subprocess.PIPE,  # closes when this process ends, however it ends
                stdout=subprocess.DEVNULL,  # standard output is for the driver's progress
            )
            for index in range(count)
        ]

    def ended(self) -> str:
        """Which worker has ended, and how; empty if all run."""
        for index, process in enumerate(self._processes):
            if process.poll() is not None:
                return f"worker {index} ended with status {process.returncode}"
        return ""

    def end(self) -> None:
        """Returns when all have ended; kills those that do not end in time."""
        give_up = time.monotonic() + _END_WITHIN_S
        while any(process.poll() is None for process in self._processes) and time.monotonic() < give_up:
            gevent.sleep(_POLL_S)
        for process in self._processes:
            process.kill()
            process.wait()
            assert process.stdin is not None  # noqa: S101 (it is a pipe)
            process.stdin.close()


class Master:
    """One run.

    Args:
        plan: the plan.
        file: its file.
    """

    def __init__(self, plan: LoadPlan, file: Path) -> None:
        self._plan, self._file, self._engine = plan, file, plan.engine
        self._schedule = plan.schedule() if plan.engine.scheduled else None
        self._count = max(1, plan.engine.workers)
        self._environment = environment_of(plan)
        self._workers = Workers(file, 0, 0)
        self._user_process: UserProcess | None = None  # if there are no workers
        self._counts: dict[int, WorkerProgress] = {}
        self._recent_ns: list[int] = []
        self._results: list[ShardResult] = []
        self._lines = ProgressLines()
        self._stopped_by = ""
        self._stopping = Event()
        self._forced = False
        self._failure = ""
        self._start_ns = 0
        self._moved_at = time.monotonic()

    def run(self) -> None:
        """Drives the plan to its end, or until it is stopped, and writes its summary.

        Raises:
            LabError: the run could not begin or go on; there is no summary then.
        """
        take(gevent.signal_handler, self._stop)
        with SpoolWriter(self._plan.spool):
            pass  # workers append to it
        try:
            self._set_up()
            self._begin()
            self._follow()
            self._wait_for_results()
        finally:
            self._tear_down()
        if self._failure:
            raise UnitError(self._failure)
        self._report()
        write_summary(self._plan.summary, combine(self._results))

    # -- beginning -----------------------------------------------------------------------------------------------

    def _set_up(self) -> None:
        if self._engine.workers:
            runner: Any = self._environment.create_master_runner(MASTER_HOST, 0)
            self._workers = Workers(self._file, self._count, runner.server.port)
            self._listen(runner)
            # Even if the run is being stopped: only a ready worker can record the unsent requests.
            self._wait_until(
                lambda: len(runner.clients.ready) == self._count or self._forced,
                _READY_WITHIN_S,
                "not all workers started",
            )
        else:
            self._user_process = UserProcess(self._plan, WHOLE, self._environment)
            self._user_process.get_ready()
            self._listen(self._environment.create_local_runner())
            self._user_process.listen()

    def _listen(self, runner: Any) -> None:
        on_message(runner, PROGRESS, lambda data: self._take_count(WorkerProgress(*data)))
        on_message(runner, RESULT, lambda data: self._results.append(ShardResult.from_document(data)))
        on_message(runner, FAILED, lambda data: self._fail(str(data)))

    def _begin(self) -> None:
        if self._stopping.is_set():
            return
        if self._engine.ui_port is not None:
            self._start_ns = time.monotonic_ns()
            open_ui(self._environment, self._engine.ui_port, self._stop_by_ui)
            return
        spawned = Event()
        self._environment.events.spawning_complete.add_listener(lambda **_: spawned.set())
        users = self._plan.users
        self._runner.start(users, spawn_rate=users)
        self._wait_until(
            lambda: spawned.is_set() or self._stopping.is_set(), _SPAWNED_WITHIN_S, "not all users started"
        )
        start = Start.soon(_LEAD_NS + _LEAD_PER_USER_NS * users)
        self._start_ns = start.at_ns
        if self._schedule is not None:
            self._runner.send_message(GO, list(start))

    # -- following -----------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Returns when the run is done, or is being stopped."""
        next_line = time.monotonic() + _PROGRESS_EVERY_S
        if self._engine.by_hand:
            self._report()  # the UI is up
        while not self._stopping.is_set() and not self._is_over():
            if why := self._workers.ended():
                self._fail(why)
            if self._is_abandoned():
                self._stop("users that stopped sending")
            if time.monotonic() >= next_line:
                self._report()
                next_line += _PROGRESS_EVERY_S
            self._stopping.wait(_POLL_S)

    def _is_over(self) -> bool:
        if self._schedule is not None:
            return len(self._results) == self._count
        return self._remaining_ns() == 0

    def _is_abandoned(self) -> bool:
        """Whether requests are left after the end of the schedule while no user sends."""
        if self._schedule is None or self._remaining_ns():
            return False
        return time.monotonic() - self._moved_at > self._plan.timeout_s + _ABANDONED_S

    def _remaining_ns(self) -> int | None:
        """Remaining time of the run; None if people decide when it ends."""
        if self._engine.by_hand:
            return None
        duration_ns = self._plan.arrivals.duration_ns if self._schedule is None else self._schedule.duration_ns
        return 0 if self._stopping.is_set() else max(0, self._start_ns + (duration_ns or 0) - time.monotonic_ns())

    def _take_count(self, count: WorkerProgress) -> None:
        before = self._counts.get(count.worker)
        if count.done > (before.done if before else 0):
            self._moved_at = time.monotonic()
        self._counts[count.worker] = count
        self._recent_ns.extend(count.recent_ns)

    def _report(self) -> None:
        recent_ns, self._recent_ns = self._recent_ns, []
        counts = self._counts.values()
        print_progress(
            self._lines.take(
                elapsed_ns=time.monotonic_ns() - self._start_ns if self._start_ns else 0,
                remaining_ns=self._remaining_ns(),
                sent=sum(each.sent for each in counts),
                done=sum(each.done for each in counts),
                ok=sum(each.ok for each in counts),
                recent_ns=recent_ns,
            )
        )

    # -- ending --------------------------------------------------------------------------------------------------

    def _stop(self, by: str) -> None:
        self._stopped_by = self._stopped_by or by
        if self._stopping.is_set():
            self._forced = True
            self._runner.send_message(STOP, by)  # the second time, workers cancel what is in flight
        self._stopping.set()

    def _stop_by_ui(self) -> None:
        """Also called when the run's own end stops the users, and then does nothing."""
        if not self._stopping.is_set():
            self._stop("ui")

    def _fail(self, why: str) -> None:
        self._failure = self._failure or why
        self._stopping.set()

    def _wait_for_results(self) -> None:
        if len(self._results) < self._count:
            self._runner.send_message(STOP, self._stopped_by)
        give_up = time.monotonic() + _RESULTS_WITHIN_S
        while len(self._results) < self._count and not self._failure:
            self._failure = self._workers.ended()
            if time.monotonic() > give_up:
                self._failure = f"{self._count - len(self._results)} of {self._count} workers reported no result"
            gevent.sleep(_POLL_S)

    def _tear_down(self) -> None:
        if self._environment.web_ui is not None:
            self._environment.web_ui.stop()
        if self._environment.runner is not None:
            self._environment.runner.quit()
        self._workers.end()
        if self._user_process is not None:
            self._user_process.leave()

    # -- within --------------------------------------------------------------------------------------------------

    @property
    def _runner(self) -> Any:
        return self._environment.runner

    def _wait_until(self, condition: Callable[[], bool], within_s: float, otherwise: str) -> None:
        """Returns when the condition holds."""
        give_up = time.monotonic() + within_s
        while not condition():
            if why := self._workers.ended():
                raise UnitError(why)
            if time.monotonic() > give_up:
                raise UnitError(f"{otherwise} within {within_s:g} s")
            gevent.sleep(_POLL_S)
