"""The prompts of a trace: what request n of a load asks.

``lab.checkers.plain_chat`` is the other implementation; the rule that both follow:

- Request n has the tokens of prompt and answer of row n.
- The tokens of a text are SHAKE-128 of its name, four bytes each, little-endian. A prompt whose blocks the trace
  numbers is made of blocks ``block:<seed>:<number>`` of 512 tokens, and cut to its length; another is
  ``prompt:<seed>:<n>``.
"""

from __future__ import annotations

from array import array
from functools import lru_cache
from typing import TYPE_CHECKING

from lab.load.mix import Payload
from lab.load.trace import BLOCK_TOKENS
from lab.plugins.pickers.conversations import tokens_of
from models.proto.generation.v1 import generation_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence


def payload_of(row: tuple[int, int, Sequence[int]], number: int, seed: int) -> Payload:
    """The message of request ``number``, which has this row: tokens of prompt and answer, and the prompt's blocks."""
    tokens, wanted, blocks = row
    prompt = array("I")
    for each in blocks:
        prompt += _block(f"block:{seed}:{each}")
    if not blocks:
        prompt = tokens_of(f"prompt:{seed}:{number}", tokens)
    message = generation_pb2.GenerateRequest(prompt=prompt[:tokens], max_tokens=wanted)
    return Payload(message, message.ByteSize())


@lru_cache(maxsize=4_096)  # 8 MB
def _block(name: str) -> array[int]:
    return tokens_of(name, BLOCK_TOKENS)
