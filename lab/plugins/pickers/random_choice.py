"""Any replica, drawn anew for each request: the control for all others."""

from __future__ import annotations

import random
from collections.abc import Sequence

from lab.pickers import Asked, Picker, Seen, at_gateway_only
from lab.plugins.pickers._choices import Stateless


class _Random(Stateless):
    def pick(self, asked: Asked, seen: Sequence[Seen]) -> int:
        del asked
        return random.randrange(len(seen))  # noqa: S311 (nothing secret)


PICKER = Picker(
    name="random",
    line="any replica, drawn for each request",
    places=at_gateway_only(_Random, "only the lab's gateway logs what it drew")
    | {"vllm-router": "random", "smg": "random"},
)
