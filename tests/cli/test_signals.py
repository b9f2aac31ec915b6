"""SIGTERM and SIGHUP are heard as Ctrl-C is, once."""

import os
import signal
from collections.abc import Iterator

import pytest

from lab.cli.signals import interrupted_by_signals

NUMBERS = (signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (*NUMBERS, signal.SIGINT)}
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


def test_what_was_ignored_still_is() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interrupted_by_signals():
        os.kill(os.getpid(), signal.SIGHUP)
