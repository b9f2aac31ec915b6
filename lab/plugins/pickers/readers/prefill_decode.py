"""The second reader of ``prefill-decode``: where a request may decode, and where another replica may prefill it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.plugins.pickers.readers._reader import PickReader
from lab.plugins.pickers.readers._sent import Sent, Tokens, lowest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.plugins.pickers.readers._reader import Asked, Seen

_MOST_NEW = 256
_BLOCK = 16


class _PrefillDecode(Sent):
    def __init__(self) -> None:
        super().__init__()
        self._others = Tokens()
        self._prefiller = ""
        self._open: list[tuple[str, str, str]] = []

    def allowed(self, asked: Asked, seen: Sequence[Seen]) -> set[str]:
        read = [each for each in seen if each["age_ms"] >= 0]
        decode = [each for each in read or seen if not each["prefills"]]
        short = min(each["in_flight"] for each in decode or read or seen)
        free = [each for each in decode or read or seen if each["in_flight"] == short]
        return lowest(free, lambda each: -self.matched(asked, each["address"]))

    def prefillers(self, asked: Asked, seen: Sequence[Seen], picked: str) -> set[str]:
        helpers = [each for each in seen if each["prefills"] and each["address"] != picked]
        if not helpers or asked["tokens"] - _BLOCK * self.matched(asked, picked) <= _MOST_NEW:
            return {""}
        return lowest(
            helpers, lambda each: self._others.busy(each["address"]) + self._others.new(asked, each["address"])
        )

    def prefills(self, asked: Asked, address: str) -> None:
        self._prefiller = address
        self._others.took(asked, address)

    def took(self, asked: Asked, address: str) -> None:
        self._open.append((asked["request_id"], address, self._prefiller))
        self._prefiller = ""
        super().took(asked, address)

    def over(self, asked: Asked, address: str) -> None:
        its = [each for each in self._open if each[:2] == (asked["request_id"], address)][-1]
        self._open.remove(its)
        if its[2]:
            self._others.over(asked, its[2])


READER = PickReader("prefill-decode", _PrefillDecode)
