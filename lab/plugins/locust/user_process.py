"""A process with users: a worker, or the driver itself if there are no workers; and its messages with the master.

A worker is ``python -m lab.plugins.locust.user_process PLAN.json K/N PORT``, with K from 0 to N - 1. The driver
starts and ends it. If the driver dies, standard input closes and the worker exits. Messages go over Locust's own
connection.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gevent
from configargparse import Namespace
from locust.env import Environment

from lab.errors import LabError
from lab.history import SpoolWriter
from lab.load.arrivals import Share
from lab.load.open_loop import Start, Stop
from lab.load.plan import LoadPlan, read_plan
from lab.load.steps import connect, raise_priority, warm_up
from lab.plugins.locust.locustfile_loader import read_locustfile
from lab.plugins.locust.loop_thread import LoopThread
from lab.plugins.locust.pacing import ScheduledPacing
from lab.plugins.locust.plan import LOCUSTFILE
from lab.plugins.locust.sender import Sender
from lab.plugins.locust.task_errors import TaskErrors
from lab.plugins.locust.user import LabUser
from lab.plugins.locust.user_pool import UserPool

if TYPE_CHECKING:
    from lab.load.summary import ShardResult

MASTER_HOST = "127.0.0.1"
# Duration of the ramp-up in the web UI, by default.
_RAMP_S = 10


def environment_of(plan: LoadPlan) -> Environment:
    """Locust's environment, with the users of the plan's locustfile.

    Raises:
        InputError: the locustfile is invalid.
    """
    # All users of a plan start at once. Locust warns of that, with HTTP users in mind.
    logging.getLogger("locust.runners").setLevel(logging.ERROR)
    path = plan.engine.files[LOCUSTFILE]
    locustfile = read_locustfile(path)
    options = Namespace(
        # Locust's own parser would also read its configuration files and environment variables.
        num_users=plan.users,
        spawn_rate=max(1, plan.users // _RAMP_S),
        run_time=None,
        headless=not plan.engine.by_hand,
        stats_history_enabled=False,
        enable_rebalancing=False,
        web_base_path="",
        tags=None,
        exclude_tags=None,
        stop_timeout=0.0,
    )
    return Environment(
        user_classes=list(locustfile.users),
        locustfile=path.name,
        parsed_options=options,
        host=f"{plan.topology}, as {plan.caller}",  # the UI asks for one, and shows it
    )


GO = "lab-go"
"""To workers: the start of the schedule, a :class:`lab.load.open_loop.Start`."""

STOP = "lab-stop"
"""To workers: stop sending; carries who asked."""

PROGRESS = "lab-progress"
"""From workers, at intervals: a :class:`WorkerProgress`."""

RESULT = "lab-result"
"""From workers, at the end: a :class:`lab.load.summary.ShardResult`."""

FAILED = "lab-failed"
"""From workers: the reason why the run cannot go on."""

_COUNT_EVERY_S = 0.5

# Users run in one thread and the event loop in another; due requests must not wait for a busy user.
_SWITCH_INTERVAL_S = 0.0002


def on_message(runner: Any, word: str, do: Callable[[Any], object]) -> None:
    """Calls a function with the data of each message of this name that a Locust runner receives."""

    def heard(*, environment: object, msg: Any) -> None:
        del environment
        do(msg.data)

    runner.register_message(word, heard)


class WorkerProgress(NamedTuple):
    """A worker's progress.

    Attributes:
        worker: its index.
        sent: requests so far; the next likewise.
        recent_ns: latencies of the requests answered since the previous message, without streams.
    """

    worker: int
    sent: int
    done: int
    ok: int
    recent_ns: Sequence[int]


class UserProcess:
    """Runs one share of the users, as Locust's runner and the master's messages direct.

    Args:
        plan: the plan.
        share: the requests of the run that this process sends.
        environment: Locust's; gets its runner later.
    """

    def __init__(self, plan: LoadPlan, share: Share, environment: Environment) -> None:
        self._plan = replace(plan, id_prefix=plan.ids_of(share.first))
        self._share, self._environment = share, environment
        self._schedule = plan.schedule().of(share) if plan.engine.scheduled else None
        self._thread = LoopThread()
        self._greenlets: list[gevent.Greenlet] = []
        self._stop: Stop | None = None
        self._sender: Sender | None = None
        self._start: Start | None = None
        self._warm_up_errors: dict[str, str] = {}
        self._ready = gevent.event.AsyncResult()
        self._pool = UserPool(
            plan,
            share,
            self._schedule,
            environment,
            send=self._send,
            fail=lambda problem: self._send_message(FAILED, problem),
        )
        LabUser.pool = self._pool
        self._errors = TaskErrors()
        self._errors.install()

    def get_ready(self) -> None:
        """Connects and warms up.

        Raises:
            LabError: a unit that the topology needs cannot be reached, or the spool cannot be opened.
        """
        raise_priority()
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        self._thread.start(self._work)
        waited = gevent.wait([self._ready, self._thread.ended], count=1)
        if self._thread.ended in waited:
            self._thread.ended.get()

    def listen(self) -> None:
        """Handles the master's messages from now on; the environment has its runner."""
        runner = self._environment.runner
        assert runner is not None  # noqa: S101 (see above)
        on_message(runner, GO, self._go)
        on_message(runner, STOP, self._ask_to_stop)
        self._greenlets = [gevent.spawn(self._report_progress), gevent.spawn(self._close)]

    def leave(self) -> None:
        """Ends what is still running."""
        gevent.killall(self._greenlets)
        self._thread.end()
        self._errors.report()

    def _send(self, queued: Any) -> None:
        assert self._sender is not None  # noqa: S101 (users start when it is ready)
        self._thread.in_loop(self._sender.take, queued)

    def _go(self, data: Sequence[int]) -> None:
        assert self._schedule is not None  # noqa: S101 (else the master sends none)
        assert self._sender is not None  # noqa: S101 (likewise)
        self._start = Start(*data)
        self._thread.in_loop(self._sender.expect, len(self._schedule), self._start)
        self._pool.begin(ScheduledPacing(self._schedule, self._start.at_ns))

    def _ask_to_stop(self, by: str) -> None:
        assert self._stop is not None  # noqa: S101 (it is ready)
        self._thread.in_loop(self._stop.ask, by)

    def _report_progress(self) -> None:
        while not self._thread.ended.ready():
            gevent.sleep(_COUNT_EVERY_S)
            self._send_progress()

    def _send_progress(self) -> None:
        sender = self._sender
        assert sender is not None  # noqa: S101 (it is ready)
        recorder = sender.recorder
        count = WorkerProgress(self._share.first, sender.sent, recorder.done, recorder.ok, recorder.take_recent_ns())
        self._send_message(PROGRESS, list(count))

    def _close(self) -> None:
        try:
            result = self._thread.ended.get()
        except Exception as error:  # noqa: BLE001 (any error ends the run)
            self._send_message(FAILED, str(error))
            return
        self._pool.end()
        self._send_progress()
        self._send_message(RESULT, result.to_document())

    def _send_message(self, message: str, data: object) -> None:
        runner = self._environment.runner
        if runner is not None:
            runner.send_message(message, data)

    async def _work(self) -> ShardResult:
        plan, self._stop = self._plan, Stop()
        client = connect(plan, self._share)
        try:
            await warm_up(plan, client, self._warm_up_errors)
            with SpoolWriter(plan.spool, new=False) as spool:
                sender = Sender(plan, self._share, client, spool, self._stop, self._thread.in_hub)
                self._sender = sender
                self._thread.in_hub(self._ready.set)
                await sender.run()
                self._keep_unsent(sender)
                return self._result_of(sender)
        finally:
            await client.close()

    def _keep_unsent(self, sender: Sender) -> None:
        """Records the requests of this worker's share that were never sent."""
        if self._schedule is None:
            return
        slots = ScheduledPacing(self._schedule, (self._start or Start.soon()).at_ns)
        while (due := slots.next_request(0)) is not None:
            if not sender.is_begun(due.sequence):
                sender.keep_unsent(due, *self._pool.unsent(due))
        sender.recorder.flush()

    def _result_of(self, sender: Sender) -> ShardResult:
        schedule = self._schedule
        start_ns = self._start.at_ns if self._start else sender.first_due_ns or sender.end_ns
        ran_out = schedule is not None and sender.sent == len(schedule)
        end_ns = start_ns + schedule.duration_ns if schedule is not None and ran_out else sender.last_sent_ns
        return sender.result(schedule, start_ns=start_ns, planned_end_ns=end_ns, warm_up_errors=self._warm_up_errors)


def main(arguments: list[str]) -> None:
    """Runs until the driver ends it; exits with status 1 and one line if it cannot start."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver handles it
    threading.Thread(target=_end_with_driver, daemon=True).start()
    file, share, port = arguments
    first, step = map(int, share.split("/"))
    try:
        plan = read_plan(Path(file))
        environment = environment_of(plan)
        process = UserProcess(plan, Share(first, step), environment)
        process.get_ready()
    except LabError as error:
        sys.exit(str(error))
    runner = environment.create_worker_runner(MASTER_HOST, int(port))
    process.listen()
    runner.greenlet.join()
    process.leave()


def _end_with_driver() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
