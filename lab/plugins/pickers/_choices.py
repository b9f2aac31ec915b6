"""What choosers share: ties, and being told of ends that some do not care about."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.pickers import Asked, Seen

NO_PROMPT = "its cluster picks for a connection or by headers, and sees neither prompts nor the replicas' queues"
NO_SIGNAL = "it has no signal of the replicas' queues"


def least(seen: Sequence[Seen], value: Callable[[Seen], Any]) -> int:
    """Place of one of those with the least value, drawn from them."""
    values = [value(each) for each in seen]
    lowest = min(values)
    return random.choice([place for place, each in enumerate(values) if each == lowest])  # noqa: S311 (nothing secret)


class Stateless:
    """A chooser that need not know when attempts end."""

    def ended(self, asked: Asked, address: str) -> None:
        """Does nothing."""
