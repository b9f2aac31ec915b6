"""SIGTERM and SIGHUP are heard as Ctrl-C is, once."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator

import pytest
from pydantic_core import to_json

from lab import cli
from lab.cli.coroutines import run_interruptibly
from lab.cli.signals import interrupted_by_signals
from tests.tools import INTERRUPTED, run_tool

NUMBERS = (signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (*NUMBERS, signal.SIGINT)}
    for number in NUMBERS:
        signal.signal(number, signal.SIG_DFL)  # a suite that nohup started ignores SIGHUP
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("again", NUMBERS)
def test_the_first_interrupts_and_the_next_lets_clearing_up_come_to_its_end(
    number: signal.Signals, again: signal.Signals
) -> None:
    before, cleared_up = signal.getsignal(number), []

    def command() -> None:
        with interrupted_by_signals():
            try:
                os.kill(os.getpid(), number)
            finally:
                os.kill(os.getpid(), again)
                cleared_up.append(True)

    with pytest.raises(KeyboardInterrupt):
        command()
    assert cleared_up
    assert before is signal.getsignal(number)


def test_who_takes_ctrl_c_in_a_way_of_its_own_takes_them_so_too() -> None:
    taken = []
    signal.signal(signal.SIGINT, lambda number, _: taken.append(number))
    with interrupted_by_signals():
        os.kill(os.getpid(), signal.SIGTERM)
    assert taken == [signal.SIGINT]


@pytest.mark.parametrize("number", [*NUMBERS, signal.SIGINT])
def test_an_interrupt_that_a_library_makes_an_error_of_its_own_ends_in_one_line(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*_: object, **__: object) -> None:
        to_json(object(), fallback=lambda _: os.kill(os.getpid(), number))

    monkeypatch.setattr(cli, "app", command)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, capsys.readouterr().err) == (130, "lab: interrupted\n")


class _Interrupted:
    """Interrupts when it is deleted, where Python ignores exceptions, as gRPC does in its callbacks."""

    def __init__(self, number: signal.Signals) -> None:
        self._number = number

    def __del__(self) -> None:
        os.kill(os.getpid(), self._number)


@pytest.mark.parametrize("number", [*NUMBERS, signal.SIGINT])
def test_no_interrupt_of_a_coroutine_is_lost(number: signal.Signals) -> None:
    async def waits() -> None:
        asyncio.get_running_loop().call_soon([_Interrupted(number)].clear)
        await asyncio.sleep(20)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), interrupted_by_signals():
        run_interruptibly(waits())
    assert time.monotonic() - began < 10


def test_a_tool_of_developers_ends_in_one_line_likewise(capsys: pytest.CaptureFixture[str]) -> None:
    status = run_tool(lambda: len(to_json(object(), fallback=lambda _: os.kill(os.getpid(), signal.SIGINT))))

    assert (status, capsys.readouterr().err) == (INTERRUPTED, "interrupted\n")


def test_what_was_ignored_still_is() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interrupted_by_signals():
        os.kill(os.getpid(), signal.SIGHUP)
