"""A caller's configuration: a JSON file that the runtime writes.

::

    {"topologies": ["gateway", "mesh"],
     "endpoints": {"by_role": {"resolver": ["127.0.0.1:1"], "sidecar": ["127.0.0.1:2"], "gateway": ["127.0.0.1:3"]},
                   "direct": {"UpNext": {"model": "up-next", "version": "v1", "addresses": ["127.0.0.1:4"]}}},
     "apis": {"UpNext": "ranking.v1"},
     "page": [["UpNext", "recommendations"]],
     "callers": {"recommendations": "127.0.0.1:5"},
     "part_of": ["homepage"],
     "fronted_by": ["edge"],
     "payload_bytes": 400}

``callers`` has the other callers whose pages are parts of this one's, ``part_of`` those of whose pages this one's is a
part, and ``fronted_by`` the roles that ask for it in users' names; all may be left out. So may ``page``, by callers
that have a plan in ``services/caller/pages.py``, and ``payload_bytes``.
``endpoints`` has the roles that the topologies need.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.client import Endpoints
from lab.errors import SpecError
from lab.reading import read_json
from lab.topologies import TOPOLOGIES
from models.apis import APIS
from services.caller.pages import PAGES, Plan

_PAYLOAD_BYTES = 400
_FIELDS = frozenset({"topologies", "endpoints", "apis", "page", "callers", "part_of", "fronted_by", "payload_bytes"})


@dataclass(frozen=True, slots=True)
class CallerConfig:
    """A caller's settings.

    Attributes:
        name: its identity.
        topologies: those that it can use; the first is the default.
        endpoints: addresses.
        apis: API by use case; use cases without an entry have the first API.
        page: stages of use cases, and of other callers.
        payload_bytes: default size of the feature vectors.
        callers: addresses of those other callers.
        part_of: callers that may ask for this one's page, as it is a part of theirs.
        fronted_by: roles through which users ask for pages; if empty, a driver asks in this caller's own name.
    """

    name: str
    topologies: tuple[str, ...]
    endpoints: Endpoints
    apis: Mapping[str, str]
    page: Plan
    payload_bytes: int = _PAYLOAD_BYTES
    callers: Mapping[str, str] = field(default_factory=dict)
    part_of: tuple[str, ...] = ()
    fronted_by: tuple[str, ...] = ()


def read_config(name: str, path: Path) -> CallerConfig:
    """Reads a caller's configuration.

    Raises:
        SpecError: the file cannot be read, or something in it is missing, unknown or of the wrong shape.
    """
    try:
        document = read_json(path)
    except (OSError, ValueError) as error:
        raise SpecError(f"{path}: cannot be read as JSON: {error}") from None
    try:
        return _config(name, document)
    except KeyError as error:
        raise SpecError(f"{path}: {error.args[0]} is missing") from None
    except (TypeError, AttributeError, ValueError) as error:
        raise SpecError(f"{path}: {error}") from None
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None


def _config(name: str, document: Mapping[str, Any]) -> CallerConfig:
    _only_known("field", document, _FIELDS)
    _only_known("topology", document["topologies"], TOPOLOGIES)
    _only_known("API", document["apis"].values(), APIS)
    page = document.get("page") or PAGES.get(name)
    if page is None:
        raise SpecError(f"page: caller {name!r} has no plan of its own; give one, e.g. [['UpNext']]")
    if not document["topologies"]:
        raise SpecError(f"topologies: give at least one of {', '.join(TOPOLOGIES)}")
    return CallerConfig(
        name=name,
        topologies=tuple(document["topologies"]),
        endpoints=Endpoints.from_document(document["endpoints"]),
        apis=dict(document["apis"]),
        page=tuple(tuple(stage) for stage in page),
        payload_bytes=int(document.get("payload_bytes", _PAYLOAD_BYTES)),
        callers=dict(document.get("callers", {})),
        part_of=tuple(document.get("part_of", ())),
        fronted_by=tuple(document.get("fronted_by", ())),
    )


def _only_known(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    for each in given:
        if each not in known:
            raise SpecError(f"{what} {each!r} is not known; there are {', '.join(sorted(known))}")
