"""Prompts and answers of a trace's lengths, computed twice: by the driver and by the checkers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lab.checkers.plain_chat import block_hashes, prompt_of, wanted_of
from lab.checkers.plain_models import answer_of
from lab.errors import LabError
from lab.plugins.pickers.prompts import MOST_ANSWER_TOKENS, plan_of
from lab.plugins.pickers.trace_prompts import payload_of
from models.tokens.blocks import chain

SEED = 5
ROWS = (
    {"timestamp": 0, "input_length": 1100, "output_length": 300, "hash_ids": [4, 5, 6]},
    {"timestamp": 7, "input_length": 1024, "output_length": 1, "hash_ids": [4, 5]},
    {"timestamp": 9, "input_length": 513, "output_length": 0, "hash_ids": [4, 7]},
    {"timestamp": 9, "input_length": 0, "output_length": 16, "hash_ids": []},
)


@pytest.fixture(name="trace")
def fixture_trace(tmp_path: Path) -> Path:
    path = tmp_path / "conversation.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    return path


def plan(trace: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps({"seed": SEED, "settings": plan_of(prompts=trace).settings}))
    return {**document, "engine": {"settings": document["settings"]}}


def test_checkers_compute_the_drivers_requests_and_the_hashes_of_their_blocks(trace: Path) -> None:
    document = plan(trace)
    for sequence, row in enumerate(document["settings"]["prompts"]):
        message, size = payload_of(row, sequence, SEED)
        found = prompt_of(document, sequence)
        assert found is not None
        assert (found.payload, len(found.payload)) == (message.SerializeToString(), size)
        assert block_hashes(found.prompt, "t", "") == [
            each.hex() for each in chain(message.prompt, tenant="t", lora="")
        ]
        assert wanted_of(document, sequence) == message.max_tokens


def test_prompts_share_what_the_trace_says_that_they_share(trace: Path) -> None:
    document = plan(trace)
    first, second, third, fourth = (prompt_of(document, sequence) for sequence in range(4))

    assert first
    assert second
    assert third
    assert fourth
    assert [len(each.prompt) // 4 for each in (first, second, third, fourth)] == [1100, 1024, 513, 1]
    assert first.prompt.startswith(second.prompt)
    assert first.prompt[: 4 * 512] == third.prompt[: 4 * 512]
    assert first.prompt[4 * 512 :][:4] != third.prompt[4 * 512 :][:4]
    assert prompt_of(document, 4) is None


def test_prompts_without_numbered_blocks_share_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "azure.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "2023-11-16 18:17:03,40,7\n" * 2)
    document = plan(trace)
    first, second = prompt_of(document, 0), prompt_of(document, 1)

    assert first
    assert second
    assert (len(first.prompt) // 4, first.wanted) == (40, 7)
    assert first.prompt[:64] != second.prompt[:64]


def test_an_answer_has_as_many_tokens_as_were_asked_for() -> None:
    assert [token for token, _ in answer_of("generate.v1", "chat", "v1", "u1", 101)][-2:] == ["g99", "g100"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"timestamp": 0, "input_length": 1, "output_length": 4097, "hash_ids": [1]}', "models give 4,096 at most"),
        ("", "is empty"),
    ],
)
def test_what_cannot_be_driven_is_refused_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "trace").write_text(text)

    with pytest.raises(LabError, match=says) as caught:
        plan_of(prompts=tmp_path / "trace")

    assert "\n" not in str(caught.value)


def test_a_model_gives_as_long_an_answer_as_the_engine_asks_for() -> None:
    from models.stub.generation import MOST_TOKENS  # noqa: PLC0415

    assert MOST_TOKENS == MOST_ANSWER_TOKENS
