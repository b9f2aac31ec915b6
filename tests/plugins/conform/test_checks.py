"""Every check passes on a small proxy that does all, and fails on one with the bug that it is meant to catch."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from math import exp, lgamma, log

import pytest

from lab.plugins.conform import CHECKS, ByEnvelope, ByHeader, Control, Options, Result, Target, conform
from lab.plugins.conform.check import Finding, passed
from lab.plugins.conform.kinds import tear
from lab.plugins.conform.power import by_chance, requests_for
from tests.plugins.conform.mutants import MUTANTS
from tests.plugins.conform.proxy import Proxy

FORMS = {form.name: form for form in (ByHeader("x-routing-key"), ByEnvelope())}
CASES = [(form, check) for form in FORMS for check in CHECKS if CHECKS[check].only in {"", form}]


async def result_of(form: str, check: str, *bugs: str) -> Result:
    """What one check finds in the proxy with these bugs."""
    proxy = Proxy(*bugs)
    target = Target.of(await proxy.start())
    control = Control(name="small-proxy", apply=proxy.apply, drain=proxy.drain, close=proxy.close)
    [result] = await conform(target, Options(form=FORMS[form], checks=[check]), control)
    return result


@pytest.mark.parametrize(("form", "check"), CASES)
async def test_a_proxy_that_does_all_passes(form: str, check: str) -> None:
    result = await result_of(form, check)

    assert (result.verdict, result.reason) == ("pass", "")


@pytest.mark.parametrize(("bug", "check"), MUTANTS.items())
async def test_a_bug_is_caught_by_the_check_meant_for_it(bug: str, check: str) -> None:
    forms = [form for form in FORMS if (form, check) in CASES]

    # At once: several of these bugs show only in that a deadline passes.
    results = await asyncio.gather(*(result_of(form, check, bug) for form in forms))

    assert {form: result.verdict for form, result in zip(forms, results, strict=True)} == dict.fromkeys(forms, "fail")
    assert all(result.reason for result in results), results


async def test_a_tear_is_unknown_if_a_connection_gets_no_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tear, "FOLLOWS_WITHIN_S", 0.5)

    result = await result_of("header", "tear", "answers-on-two-connections")

    assert (result.verdict, "a connection got no answers" in result.reason) == ("unknown", True), result


async def test_an_end_that_comes_while_a_check_gives_a_call_up_itself_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began = asyncio.Event()

    async def gives_up(*_: object) -> Finding:
        began.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return passed()

    monkeypatch.setattr("lab.plugins.conform.run._finding", gives_up)
    run = asyncio.create_task(result_of("header", "cancellation"))
    await began.wait()
    run.cancel()

    with pytest.raises(asyncio.CancelledError):
        await run


@pytest.mark.parametrize(("share", "shifted"), [(0.7, 0.6), (0.7, 0.8), (0.2, 0.3), (0.2, 0.1), (0.5, 0.6)])
def test_a_share_that_is_ten_points_off_is_noticed_in_99_of_100_runs(share: float, shifted: float) -> None:
    requests = requests_for(share)

    def chance(of: float, count: int) -> float:
        ways = lgamma(requests + 1) - lgamma(count + 1) - lgamma(requests - count + 1)
        return exp(ways + count * log(of) + (requests - count) * log(1 - of))

    noticed = [count for count in range(requests + 1) if abs(count / requests - share) > by_chance(share, requests)]
    assert sum(chance(shifted, count) for count in noticed) > 0.99
    assert sum(chance(share, count) for count in noticed) < 1e-4


def test_every_check_catches_a_bug() -> None:
    assert set(MUTANTS.values()) == set(CHECKS)
