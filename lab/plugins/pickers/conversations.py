"""Conversations of several turns that share system prompts: what request n of a load asks.

``lab.checkers.plain_chat`` is the other implementation; the rule that both follow:

- User n mod U sends request n, where U is the number of users; with k = n // U, it is turn k mod T of the user's
  conversation number k // T, whose name is ``u<user>.<number>``.
- The conversation's system prompt is one of G: the first eight bytes of BLAKE2b of ``group:<seed>:<conversation>``, as
  a big-endian number divided by 2^64, fall into the cumulative shares, and prompt g has a share in proportion to
  1 / (g + 1)^skew.
- A prompt is the system prompt, then for each earlier turn its question and 16 tokens of answer, then its own question.
  Of the first turn's P tokens the system prompt has round(share · P).
- The tokens of a text are SHAKE-128 of its name, four bytes each, little-endian: ``system:<seed>:<g>``,
  ``question:<seed>:<conversation>:<turn>``, ``answer:<seed>:<conversation>:<turn>``.
- With L adapters, system prompt g has the adapter ``lora-<g mod L>``.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from hashlib import blake2b, shake_128
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from lab.load.mix import Payload
from models.apis import ANSWER_TOKENS
from models.proto.generation.v1 import generation_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping


class Turn(NamedTuple):
    """One turn of a conversation; all are counted from 0."""

    user: int
    conversation: str
    turn: int


class Conversations:
    """The requests of a run.

    Args:
        settings: of the engine, see :data:`lab.plugins.pickers.chat.ENGINE`.
        users: who take turns.
        seed: of the run.
    """

    def __init__(self, settings: Mapping[str, Any], *, users: int, seed: int) -> None:
        self._settings, self._users, self._seed = settings, users, seed
        weights = [1 / (number + 1) ** settings["skew"] for number in range(settings["groups"])]
        self._shares = [each / sum(weights) for each in accumulate(weights)]
        self._system = round(settings["share"] * settings["prompt_tokens"])
        self._systems: dict[int, array[int]] = {}

    def turn(self, sequence: int) -> Turn:
        """The turn that a request is."""
        user, before = sequence % self._users, sequence // self._users
        number, turn = divmod(before, self._settings["turns"])
        return Turn(user, f"u{user}.{number}", turn)

    def group(self, conversation: str) -> int:
        """The system prompt of a conversation."""
        drawn = blake2b(f"group:{self._seed}:{conversation}".encode(), digest_size=8).digest()
        place = bisect_right(self._shares, int.from_bytes(drawn, "big") / 2**64)
        return min(place, len(self._shares) - 1)

    def payload(self, turn: Turn) -> Payload:
        """The message of a turn."""
        _, conversation, number = turn
        group, seed, loras = self.group(conversation), self._seed, self._settings["loras"]
        if group not in self._systems:
            self._systems[group] = tokens_of(f"system:{seed}:{group}", self._system)
        prompt, question = array("I", self._systems[group]), self._settings["prompt_tokens"] - self._system
        for place in range(number):
            prompt += tokens_of(f"question:{seed}:{conversation}:{place}", question)
            prompt += tokens_of(f"answer:{seed}:{conversation}:{place}", ANSWER_TOKENS)
        prompt += tokens_of(f"question:{seed}:{conversation}:{number}", question)
        lora = f"lora-{group % loras}" if loras else ""
        message = generation_pb2.GenerateRequest(
            prompt=prompt, max_tokens=ANSWER_TOKENS, session=conversation, lora=lora
        )
        return Payload(message, message.ByteSize())


def tokens_of(name: str, count: int) -> array[int]:
    """The tokens of a text of this name."""
    return array("I", shake_128(name.encode()).digest(4 * count))
