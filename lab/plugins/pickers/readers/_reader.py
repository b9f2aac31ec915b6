"""The value that describes a second reader of a picker's policy, and all of them by the picker's name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from lab.registry import Registry

Asked: TypeAlias = Mapping[str, Any]
"""A request as its picker saw it: the fields of :class:`lab.pickers.Asked`, hashes as one hexadecimal text."""

Seen: TypeAlias = Mapping[str, Any]
"""A replica as its picker saw it: the fields of :class:`lab.pickers.Seen`."""


Wait: TypeAlias = Mapping[str, Any]
"""How a request waited for a replica with room, as its gateway logged it: ``number``, ``at_ns``, ``asked``, and of its
end ``outcome`` and ``ended_ns``, see :mod:`services.gateway.picks`."""


class Reader:
    """Reads one policy, and allows every replica; a policy without a memory overrides only what it allows.

    Attributes:
        judges_waits: whether it reads when requests wait, and which are shed; a picker that lets them needs such a one.
    """

    judges_waits = False

    def waits(self, wait: Wait, seen: Sequence[Seen]) -> Iterator[str]:
        """Learns that a request waits from now on; yields objections."""
        del wait, seen
        yield from ()

    def sends(self, pick: Mapping[str, Any], seen: Sequence[Seen]) -> Iterator[str]:
        """Learns of a pick, before :meth:`took`; yields objections to its time.

        Its ``queued`` is the number of the wait that it ends, or 0.
        """
        del pick, seen
        yield from ()

    def ends(self, wait: Wait, seen: Sequence[Seen]) -> Iterator[str]:
        """Learns that a wait has ended without a pick; yields objections."""
        del wait, seen
        yield from ()

    def allowed(self, asked: Asked, seen: Sequence[Seen]) -> set[str]:
        """Returns the addresses that the policy could have taken."""
        del asked
        return {each["address"] for each in seen}

    def prefillers(self, asked: Asked, seen: Sequence[Seen], picked: str) -> set[str]:
        """Returns where the policy could have had it prefilled; empty for the picked replica itself."""
        del asked, seen, picked
        return {""}

    def heard(self, batches: Sequence[Sequence[Any]]) -> None:
        """Learns of KV events since the pick before: address, number of the batch, and payload, hexadecimal."""

    def took(self, asked: Asked, address: str) -> None:
        """Learns where the request went."""

    def prefills(self, asked: Asked, address: str) -> None:
        """Learns where it is prefilled, if not there."""

    def over(self, asked: Asked, address: str) -> None:
        """Learns that the attempt has ended."""


@dataclass(frozen=True, slots=True)
class PickReader:
    """A second reader of a picker's policy.

    Attributes:
        name: of the picker.
        make: makes the reader of one gateway's picks for one routing key.
        reads_prompt: whether the policy needs prompts, so that a gateway which passes bodies on unread cannot pick so.
    """

    name: str
    make: Callable[[], Reader]
    reads_prompt: bool = True


READERS = Registry(
    PickReader, package="lab.plugins.pickers.readers", group="routing_lab.pick_readers", noun="second reader"
)
"""All second readers, by the name of the picker: the lab's, those of other distributions, and those of plugin files."""
