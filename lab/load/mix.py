"""The traffic mix: use case, user and context of each request, and the message with its payload."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from lab.load.arrivals import WHOLE
from lab.load.plan import DRAWN_FIELDS
from models.apis import APIS

if TYPE_CHECKING:
    from lab.load.arrivals import Share
    from lab.load.plan import LoadPlan, UseCase

CACHE_BYTES = 64 * 1024 * 1024


class RequestSpec(NamedTuple):
    """The use case and the context of one request."""

    use_case: UseCase
    context: dict[str, str]


class Mix:
    """Draws the requests of a share. Request n of a plan is the same however the run is shared out."""

    def __init__(self, plan: LoadPlan, share: Share = WHOLE) -> None:
        # Not the bare seed: arrivals use it, and users must be independent of the gaps between arrivals.
        self._random = Random(f"mix:{plan.seed}").random  # noqa: S311 (not security-relevant)
        self._use_cases = plan.use_cases
        self._edge_case, self._by_name = plan.edge_case, {use_case.name: use_case for use_case in plan.use_cases}
        self._sequences = itertools.count(share.first, share.step)
        self._users = plan.users
        self._fixed = {
            **dict.fromkeys(DRAWN_FIELDS, ""),
            "traffic_origin": plan.traffic_origin,
            **{name: choices[0] for name, choices in plan.contexts.items()},
            "caller": plan.caller,
        }
        self._drawn = [(name, choices) for name, choices in plan.contexts.items() if len(choices) > 1]
        # The other shares' requests are drawn too, and discarded: about 0.2 µs each.
        numbers_a_request = (len(self._use_cases) > 1) + 1 + len(self._drawn)
        self._others = range(numbers_a_request * (share.step - 1))
        for _ in range(numbers_a_request * share.first):
            self._random()

    def draw(self) -> RequestSpec:
        """The next request."""
        random = self._random
        use_cases = self._use_cases
        use_case = use_cases[int(random() * len(use_cases))] if len(use_cases) > 1 else use_cases[0]
        context = {"user_id": f"u{int(random() * self._users)}", **self._fixed}
        for name, choices in self._drawn:
            context[name] = choices[int(random() * len(choices))]
        for _ in self._others:
            random()
        edge_case = self._edge_case(next(self._sequences))
        if edge_case is not None:
            use_case = self._by_name[edge_case.use_case]
            context.update(edge_case.context)
        return RequestSpec(use_case, context)


class Payload(NamedTuple):
    """A message without envelope, and its serialised size, bytes."""

    message: Any
    size: int


class Payloads:
    """Messages by API and size, built once and cached up to :data:`CACHE_BYTES`.

    Concurrent calls share a message: a client fills the envelope and serialises it without yielding. Building one takes
    12 µs at 0.4 KB and 14 ms at 4 MB, which would otherwise delay the request.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int], Payload] = {}
        self._kept_bytes = 0

    def prepare(self, apis: Iterable[str], sizes: Iterable[int]) -> None:
        """Builds messages before the run, as many as fit into the cache."""
        distinct_apis, distinct_sizes = sorted(set(apis)), dict.fromkeys(sizes)
        for payload_bytes in distinct_sizes:
            for api in distinct_apis:
                if self._kept_bytes + payload_bytes > CACHE_BYTES:
                    return
                self.get(api, payload_bytes)

    def get(self, api: str, payload_bytes: int) -> Payload:
        """A message of about this size, and its exact size; neither counts the envelope."""
        payload = self._kept.get((api, payload_bytes))
        return self._build(api, payload_bytes) if payload is None else payload

    def _build(self, api: str, payload_bytes: int) -> Payload:
        message = APIS[api].build_request(payload_bytes)
        payload = Payload(message, message.ByteSize())
        self._kept[api, payload_bytes] = payload
        self._kept_bytes += payload.size
        while self._kept_bytes > CACHE_BYTES and len(self._kept) > 1:
            oldest = next(iter(self._kept))
            self._kept_bytes -= self._kept.pop(oldest).size
        return payload
