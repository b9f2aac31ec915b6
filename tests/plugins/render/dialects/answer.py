"""What the interpreters of all dialects take and return."""

from collections.abc import Mapping
from typing import NamedTuple

Answer = Mapping[tuple[str, str], float]
"""Cluster and the routing key that arrives there → percent of such requests; empty: nobody answers."""


class Request(NamedTuple):
    """A gRPC request, as a proxy sees it; names of headers are in lower case."""

    service: str
    method: str
    headers: Mapping[str, str]
