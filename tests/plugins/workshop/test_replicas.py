"""Notebook 8 computes what the models take, and shows each request of a conversation with its replica."""

from types import SimpleNamespace
from typing import Any

import pytest

from lab.checkers import Claim, Outcome
from lab.plugins.workshop import replicas
from lab.plugins.workshop.replicas import check_first_token, compared, turns_picture


@pytest.mark.parametrize(
    ("ms", "hint"),
    [
        (None, "How many tokens"),
        (249.6, "nothing of the prompt"),
        (199.2, "Which are missing"),
        (50.4, "More."),
        (300, "Less."),
    ],
)
def test_the_time_to_the_first_token_is_that_of_the_tokens_that_are_not_cached(ms: float | None, hint: str) -> None:
    assert check_first_token(tokens=656, cached=512, ms=70.4).right
    result = check_first_token(tokens=656, cached=512, ms=ms)
    assert not result.right
    assert hint in result.words


def record(sequence: int, replica: str, cached: int, first_ms: float) -> Any:
    return SimpleNamespace(
        sequence=sequence,
        replica=replica,
        usage=f"512 {cached} 0.2",
        status="OK",
        intended_ns=sequence * 1_000_000_000,
        sent_ns=sequence * 1_000_000_000,
        first_item_ns=int(first_ms * 1e6),
        done_ns=int((sequence * 1_000 + first_ms + 150) * 1e6),
        request_id=str(sequence),
    )


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    records = [record(1, "b", 384, 65), record(0, "a", 0, 200), record(2, "b", 128, 155)]
    monkeypatch.setattr(replicas, "records_of", lambda _: records)
    return SimpleNamespace(claims={Claim.TIMING: Outcome.UNKNOWN})


def test_turns_are_in_their_order_with_what_was_cached(run: Any) -> None:
    body = str(turns_picture(run).body)

    assert body.index("turn 1, a") < body.index("turn 2, b")
    assert "200 ms; 0 of 512 tokens cached" in body
    assert "65 ms; 384 of 512 tokens cached" in body


def test_runs_are_compared_without_their_lead(run: Any) -> None:
    body = str(compared({"prefix": run}, "t").body)

    for cell in ("prefix", "110", "155", "50", "4.00", "unknown"):
        assert f">{cell}</td>" in body
