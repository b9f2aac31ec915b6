"""The routes that a proxy is asked to have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.plugins.conform.forms import ByHeader

WEIGHTS, STICKY, SHADOW, METHOD, CONDITIONS = "weights", "sticky", "shadow", "method", "conditions"


@dataclass(frozen=True, slots=True)
class Backend:
    """A model that answers requests of a route.

    Attributes:
        model: its name.
        weight: its part of the requests; parts are relative to each other, and 0 means none.
    """

    model: str
    weight: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Requests with a routing key go to these models.

    Attributes:
        key: value of the routing header, compared exactly.
        backends: models that answer.
        conditions: further headers that the request must have, compared exactly.
        method: path of the only method, ``/package.Service/Method``; any method if empty.
        sticky: header whose value decides between the backends, so that equal values have the same; empty for none.
        shadow: model that receives a copy of each request; empty for none.
    """

    key: str
    backends: tuple[Backend, ...]
    conditions: tuple[tuple[str, str], ...] = ()
    method: str = ""
    sticky: str = ""
    shadow: str = ""

    @property
    def models(self) -> frozenset[str]:
        """Names of all models that it needs."""
        return frozenset({each.model for each in self.backends} | ({self.shadow} if self.shadow else set()))

    @property
    def features(self) -> frozenset[str]:
        """What a proxy needs beside a match of the key."""
        needed = {
            WEIGHTS: len({each.weight for each in self.backends}) > 1,
            STICKY: bool(self.sticky),
            SHADOW: bool(self.shadow),
            METHOD: bool(self.method),
            CONDITIONS: bool(self.conditions),
        }
        return frozenset(name for name, is_needed in needed.items() if is_needed)


def route(key: str, *models: str) -> Route:
    """A route to models in turn."""
    return Route(key=key, backends=tuple(map(Backend, models)))


def document(
    routes: Iterable[Route], addresses: Mapping[str, str], *, address: str, form: ByHeader, revision: int
) -> dict[str, Any]:
    """The table as JSON: what a control gets, and what a person configures. Of two routes that match, the first wins.

    Args:
        routes: in order.
        addresses: ``ip:port`` of each model; plaintext HTTP/2.
        address: of the proxy.
        form: of requests.
        revision: number of the table; each one is higher than that of the table before.
    """
    return {
        "address": address,
        **form.table,
        "revision": revision,
        "routes": [_written(each, addresses, form) for each in routes],
    }


def _written(each: Route, addresses: Mapping[str, str], form: ByHeader) -> dict[str, Any]:
    def model(name: str) -> dict[str, Any]:
        return {"model": name, "address": addresses[name]}

    optional = {
        "method": each.method,
        "conditions": {form.field(name): value for name, value in each.conditions},
        "sticky": each.sticky and form.field(each.sticky),
        "shadow": model(each.shadow) if each.shadow else {},
    }
    backends = [{**model(backend.model), "weight": backend.weight} for backend in each.backends]
    return {
        "key": form.key(each.key),
        "backends": backends,
        **{name: value for name, value in optional.items() if value},
    }
