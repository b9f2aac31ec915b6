"""The prompts of conversations and of traces, and the hashes of their blocks, computed a second time.

It shares no code with ``lab.plugins.pickers.conversations`` and ``lab.plugins.pickers.trace_prompts``, whose docstrings
have the rules, nor with ``models.tokens.blocks``, which says what a block's hash is.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from lab.checkers.plain_models import TOKENS, prompt_payload

_TOKEN, _BLOCK_BYTES = 4, 64
_TRACE_BLOCK = 512


class PlainPrompt(NamedTuple):
    """A request's prompt, 4 bytes a token; its conversation, the place of its turn, its adapter, and tokens wanted."""

    prompt: bytes
    session: str = ""
    turn: int = 0
    lora: str = ""
    wanted: int = len(TOKENS)

    @property
    def payload(self) -> bytes:
        """The request on the wire, without its envelope."""
        return prompt_payload(self.prompt, self.session, self.lora, self.wanted)


def prompt_of(plan: Mapping[str, Any], sequence: int) -> PlainPrompt | None:
    """Returns the prompt of a request by a plan in its JSON form; None if its load is not of prompts."""
    if rows := _settings_of(plan).get("prompts"):
        return _of_trace(plan["seed"], sequence, *rows[sequence]) if sequence < len(rows) else None
    if (chat := _chat_of(plan)) is None:
        return None
    session, turn, group = _place_of(plan, chat, sequence)
    seed = plan["seed"]
    system = round(chat["share"] * chat["prompt_tokens"])
    question = chat["prompt_tokens"] - system
    texts = [(f"system:{seed}:{group}", system)]
    for earlier in range(turn):
        texts += [
            (f"question:{seed}:{session}:{earlier}", question),
            (f"answer:{seed}:{session}:{earlier}", len(TOKENS)),
        ]
    texts.append((f"question:{seed}:{session}:{turn}", question))
    prompt = b"".join(hashlib.shake_128(name.encode()).digest(_TOKEN * tokens) for name, tokens in texts)
    return PlainPrompt(prompt, session, turn, _lora(chat, group))


def weights_of(plan: Mapping[str, Any], sequence: int, version: str) -> str:
    """Returns the name of the weights that answer a request: the version's, with its adapter if it has one."""
    if (chat := _chat_of(plan)) is None or not chat["loras"]:
        return version
    _, _, group = _place_of(plan, chat, sequence)
    return f"{version}+{_lora(chat, group)}"


def wanted_of(plan: Mapping[str, Any], sequence: int) -> int:
    """Returns how many tokens a request asks for."""
    rows = _settings_of(plan).get("prompts", ())
    return rows[sequence][1] if sequence < len(rows) else len(TOKENS)


def _of_trace(seed: int, sequence: int, tokens: int, wanted: int, blocks: Sequence[int]) -> PlainPrompt:
    """Returns the prompt of a row of a trace: of as many tokens, block by block where the trace numbers blocks."""
    names = [f"block:{seed}:{number}" for number in blocks] or [f"prompt:{seed}:{sequence}"]
    each = _TRACE_BLOCK if blocks else tokens
    prompt = b"".join(hashlib.shake_128(name.encode()).digest(_TOKEN * each) for name in names)
    return PlainPrompt(prompt[: _TOKEN * tokens], wanted=wanted)


def _settings_of(plan: Mapping[str, Any]) -> Mapping[str, Any]:
    settings: Mapping[str, Any] = plan.get("engine", {}).get("settings", {})
    return settings


def _chat_of(plan: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return _settings_of(plan).get("chat")


def _place_of(plan: Mapping[str, Any], chat: Mapping[str, Any], sequence: int) -> tuple[str, int, int]:
    """Returns a request's conversation, the place of its turn, and its system prompt."""
    turn_of_user, user = divmod(sequence, plan["users"])
    conversation, turn = divmod(turn_of_user, chat["turns"])
    session = f"u{user}.{conversation}"
    return session, turn, _group(session, plan["seed"], chat["groups"], chat["skew"])


def _lora(chat: Mapping[str, Any], group: int) -> str:
    return f"lora-{group % chat['loras']}" if chat["loras"] else ""


def _group(session: str, seed: int, groups: int, skew: float) -> int:
    number = int(hashlib.blake2b(f"group:{seed}:{session}".encode(), digest_size=8).hexdigest(), 16) / 2**64
    return next((group for group, upto in enumerate(_upto(groups, skew)) if number < upto), groups - 1)


@lru_cache(maxsize=8)
def _upto(groups: int, skew: float) -> tuple[float, ...]:
    """Returns the cumulative shares of the system prompts."""
    weights = [(group + 1) ** -skew for group in range(groups)]
    total, upto = 0.0, []
    for each in weights:
        total += each
        upto.append(total)
    return tuple(each / total for each in upto)


def block_hashes(prompt: bytes, tenant: str, lora: str) -> list[str]:
    """Returns the hashes of the full blocks of a prompt, hexadecimal: each of the one before and of 16 tokens."""
    before, hashes = _hash(tenant.encode() + b"\0" + lora.encode()), []
    for number in range(len(prompt) // _BLOCK_BYTES):
        before = _hash(bytes.fromhex(before) + prompt[number * _BLOCK_BYTES : (number + 1) * _BLOCK_BYTES])
        hashes.append(before)
    return hashes


def warm_up_prompt(payload_bytes: int) -> bytes:
    """Returns the prompt of a request with a payload of this size that is not of a conversation."""
    tokens = max((payload_bytes - 5) // _TOKEN, 1)
    return struct.pack(f"<{tokens}I", *range(tokens))


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()
