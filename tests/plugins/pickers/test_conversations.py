"""The conversations of a load, computed twice: by the driver and by the checkers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from lab.checkers.plain_chat import block_hashes, prompt_of
from lab.plugins.pickers.chat import plan_of
from lab.plugins.pickers.conversations import Conversations
from models.tokens.blocks import chain

USERS, SEED = 7, 5


def plan(**options: Any) -> dict[str, Any]:
    return {"users": USERS, "seed": SEED, "engine": {"settings": dict(plan_of(**options).settings)}}


@pytest.mark.parametrize(
    "options", [{}, {"loras": 3, "turns": 2}, {"share": 0.0, "prompt_tokens": 40}, {"skew": 0.0, "system_prompts": 100}]
)
def test_checkers_compute_the_drivers_prompts_and_their_hashes(options: dict[str, Any]) -> None:
    document = plan(**options)
    conversations = Conversations(document["engine"]["settings"]["chat"], users=USERS, seed=SEED)
    for sequence in range(60):
        message, size = conversations.payload(conversations.turn(sequence))
        found = prompt_of(document, sequence)
        assert found is not None
        assert (found.payload, len(found.payload)) == (message.SerializeToString(), size)
        hashes = chain(message.prompt, tenant="t", lora=message.lora)
        assert block_hashes(found.prompt, "t", found.lora) == [each.hex() for each in hashes]


def test_a_turn_begins_with_the_whole_turn_before_it_and_conversations_share_system_prompts() -> None:
    document = plan(turns=3, system_prompts=2)
    prompts = [prompt_of(document, sequence) for sequence in range(USERS * 6)]
    of_user = [each for each in prompts[::USERS] if each is not None]

    assert [each.turn for each in of_user] == [0, 1, 2, 0, 1, 2]
    assert [len(each.prompt) // 4 for each in of_user[:3]] == [512, 512 + 144, 512 + 288]
    assert of_user[2].prompt.startswith(of_user[1].prompt)
    assert len({each.prompt[: 4 * 384] for each in prompts if each is not None}) == 2
    assert len({each.prompt[: 4 * 512] for each in prompts if each is not None}) == USERS * 2


def test_the_first_system_prompt_is_as_frequent_as_its_weight() -> None:
    conversations = Conversations(plan_of(system_prompts=4, skew=1.0).settings["chat"], users=1, seed=1)
    counts = Counter(conversations.group(f"u0.{number}") for number in range(5_000))

    # Four weights 1, 1/2, 1/3, 1/4: the first has 12/25; within 5 sigma.
    assert abs(counts[0] - 5_000 * 12 / 25) < 5 * (5_000 * 12 / 25 * 13 / 25) ** 0.5
