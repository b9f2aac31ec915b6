"""``--claims`` and ``--slo``: what decides the exit status."""

from __future__ import annotations

import pytest

from lab.checkers import Claim
from lab.cli.check import objectives_of
from lab.errors import InputError
from lab.runs import Objectives


def test_claims_and_objective_are_parsed() -> None:
    assert objectives_of("correctness,availability", None) == Objectives()
    assert objectives_of(" timing ", None) == Objectives(claims=(Claim.TIMING,))
    assert objectives_of("timing", "availability>=99.9%").availability_slo == pytest.approx(0.999)
    assert objectives_of("timing", "availability >= 100 %").availability_slo == 1


@pytest.mark.parametrize(
    ("claims", "slo", "message"),
    [
        ("", None, "--claims: '' is not a list of claims; write some of correctness,availability,timing"),
        ("truth", None, "--claims: 'truth' is not a list of claims"),
        ("timing", "latency<=5ms", "--slo: 'latency<=5ms' is not an objective; write e.g. 'availability>=99.9%'"),
        ("timing", "availability>=0%", "--slo: "),
        ("timing", "availability>=101%", "--slo: "),
    ],
)
def test_others_are_refused_in_one_line(claims: str, slo: str | None, message: str) -> None:
    with pytest.raises(InputError) as caught:
        objectives_of(claims, slo)
    assert str(caught.value).startswith(message)
