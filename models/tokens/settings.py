"""How long a token model takes, and how much it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

_MOST = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSettings:
    """Settings of a model that generates tokens.

    Times are before ``time_scale``. The formulas are llm-d-inference-sim's (docs/latency-simulation.md), the defaults
    its profile ``small`` and its limits:

    - time to first token = (overhead + uncached prompt tokens · prefill) · factor;
    - each further token takes itl · factor;
    - the factor grows linearly, from 1 with one running request to ``load_factor`` with ``max_num_seqs``;
    - the first token of a prompt that another replica has prefilled takes all its tokens · kv_transfer in place of the
      first formula, without the factor.

    Attributes:
        time_scale: factor of all times.
        overhead_ms: of a request.
        prefill_ms: of an uncached token of the prompt.
        itl_ms: between two generated tokens.
        load_factor: how much slower it is with ``max_num_seqs`` requests than with one.
        max_num_seqs: requests that it serves at once.
        queue_limit: requests that wait; it refuses more.
        blocks: of its KV cache, 16 tokens each.
        max_loras: adapters that it holds at once, as vLLM's ``--max-loras``; 0 for any number, without time to load.
        lora_load_ms: time to load an adapter that it does not hold.
        kv_events: format of its KV cache's events: 0 for none, 1 for vLLM's before 0.24, 2 for vLLM's from 0.24 on.
        prefill_replicas: the first so many replicas of each cluster, by name, only prefill, for the others.
        kv_transfer_ms: to copy a token's part of the KV cache from one replica to another.
    """

    time_scale: float = 1.0
    overhead_ms: float = 20.0
    prefill_ms: float = 0.35
    itl_ms: float = 15.0
    load_factor: float = 1.0
    max_num_seqs: int = 5
    queue_limit: int = 1_000
    blocks: int = 1_024
    max_loras: int = 0
    lora_load_ms: float = 0.0
    kv_events: int = 0
    prefill_replicas: int = 0
    kv_transfer_ms: float = 0.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value, whole = getattr(self, each.name), isinstance(each.default, int)
            least = 1 if each.name in {"load_factor", "max_num_seqs", "blocks"} else 0
            most = 2 if each.name == "kv_events" else _MOST
            if not least <= value <= most or (whole and not float(value).is_integer()):
                number = "a whole number" if whole else "a number"
                upto = f" to {most}" if most < _MOST else ""
                raise ValueError(f"{each.name}: {value!r} is out of range: use {number} from {least}{upto}")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The settings with these values.

        Raises:
            ValueError: a name is not known, or a value is out of range.
        """
        whole = {each.name: isinstance(each.default, int) for each in fields(cls)}
        for name, value in values.items():
            if name not in whole:
                raise ValueError(f"{name}: is not known; there are {', '.join(whole)}")
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise ValueError(f"{name}: {value!r} is not a number")  # noqa: TRY004 (wrong input, not a wrong call)
        as_is = {
            name: int(value) if whole[name] and float(value).is_integer() else value for name, value in values.items()
        }
        return cls(**as_is)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The settings in a text, ``blocks=64,itl_ms=2``; the inverse of :meth:`to_text`.

        Raises:
            ValueError: as :meth:`of`.
        """
        values: dict[str, float] = {}
        for part in filter(None, text.split(",")):
            name, _, number = part.partition("=")
            values[name] = int(number) if number.isdecimal() else float(number)
        return cls.of(values)

    def to_text(self) -> str:
        """What differs from the defaults, as text."""
        defaults = asdict(type(self)())
        return ",".join(f"{name}={value}" for name, value in asdict(self).items() if value != defaults[name])

    def factor(self, running: int) -> float:
        """How much longer everything takes while this many requests run."""
        if self.max_num_seqs == 1:
            return 1.0
        return 1 + (self.load_factor - 1) * (running - 1) / (self.max_num_seqs - 1)

    def first_token_s(self, uncached: int, running: int) -> float:
        """Time to the first token of a request that has just begun, seconds."""
        return (self.overhead_ms + uncached * self.prefill_ms) * self.factor(running) * self.time_scale / 1_000

    def transfer_s(self, tokens: int) -> float:
        """Time to the first token of a request with a prompt of this length that was prefilled elsewhere, seconds."""
        return tokens * self.kv_transfer_ms * self.time_scale / 1_000

    def only_prefills(self, replica: str) -> bool:
        """Whether a replica only prefills, by its name: ``ml-cluster-1-a`` is the first, ``…-aa`` the 27th."""
        place = 0
        for letter in replica.rpartition("-")[2]:
            place = 26 * place + ord(letter) - ord("a") + 1
        return 0 < place <= self.prefill_replicas

    def load_adapter_s(self) -> float:
        """Time to load an adapter, seconds."""
        return self.lora_load_ms * self.time_scale / 1_000

    def next_token_s(self, running: int) -> float:
        """Time to each further token, seconds."""
        return self.itl_ms * self.factor(running) * self.time_scale / 1_000


DEFAULTS = TokenSettings()
"""Of a lab that says nothing."""
