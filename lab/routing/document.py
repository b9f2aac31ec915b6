"""The route table as a value: read from YAML or from a stored document, and validated completely.

Only this module opens files. Services receive rules over the wire and must not import it: with pydantic and yaml it
would cost each process several megabytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lab.errors import RouteTableError
from lab.reading import open_regular
from lab.routing.agreements import Agreements
from lab.routing.bulk_allocation import gc_disabled
from lab.routing.checks import error_of, problems
from lab.routing.compiled import Version
from lab.routing.schema import DEFAULT_TIMEOUT
from lab.routing.shards import Shards, clusters_of
from lab.routing.yaml_nodes import MAX_BYTES, MAX_DEPTH, MAX_NODES, Node, merged, parse, shown

if TYPE_CHECKING:
    from lab.routing.difference import Derivation

KNOWN_APIS = frozenset({"ranking.v1", "fraud.v1", "generate.v1"})
SECTIONS = ("use_cases", "models", "clusters")
OPTIONAL_SECTIONS = ("tenants",)
"""Sections that are left out of a document if empty."""

_ALL_SECTIONS = (*SECTIONS, *OPTIONAL_SECTIONS)
_SECTION = re.compile(rf"""^[ \t{{,"']*({"|".join(_ALL_SECTIONS)})["']?[ \t]*:""", re.MULTILINE)


class Source(NamedTuple):
    """A file's name, for errors, and its text."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion(Version):
    """One version of one model, or a shard of it, and where it runs.

    Attributes:
        failover: the cluster that stands in if no replica of ``cluster`` can answer; empty if there is none.
    """

    cluster: str
    failover: str = ""


@dataclass(frozen=True, slots=True)
class RouteTable:
    """A valid route table. Tables with equal documents are equal, and route alike.

    Attributes:
        document: the table as JSON data, in the shape of the YAML; read-only.
        versions: by routing key.
        clusters: name → number of replicas.
        derivation: the table that this one was derived from, and what differs; None if it was read as a whole.
    """

    document: dict[str, Any]
    versions: Mapping[str, ModelVersion] = field(compare=False, repr=False)
    clusters: Mapping[str, int] = field(compare=False, repr=False)
    derivation: Derivation | None = field(default=None, compare=False, repr=False)
    known_agreements: Agreements | None = field(default=None, compare=False, repr=False)

    __hash__ = None  # type: ignore[assignment]  # a dict is not hashable

    @classmethod
    def from_document(cls, document: Mapping[str, Any], *, apis: Iterable[str] = KNOWN_APIS) -> RouteTable:
        """The table of a stored document; empty sections are allowed.

        Raises:
            RouteTableError: the document is not a valid route table.
        """
        try:
            copy = json.loads(json.dumps(document, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise RouteTableError(f"is not JSON data ({shown(str(error))}); pass a table's document") from error
        root = Node("-", 0, copy)  # no lines, as it was not read from text
        return cls._of_tree(root, [root.file], frozenset(apis))

    @classmethod
    def _of_tree(cls, root: Node, files: Sequence[str], apis: frozenset[str]) -> RouteTable:
        found = problems(root.value, apis)
        if found:
            raise error_of(found, root, files)
        return cls.of_valid(_sections(root.value))

    @classmethod
    def of_valid(cls, document: dict[str, Any]) -> RouteTable:
        """The table of a document that was validated before; the document is not copied."""
        failovers = {name: cluster.get("failover", "") for name, cluster in document["clusters"].items()}
        versions = [
            ModelVersion(
                model,
                version,
                runs.get("config", {}),
                Shards.of(runs["cluster"]),
                shard,
                cluster=cluster,
                failover=failovers[cluster],
            )
            for model, entry in document["models"].items()
            for version, runs in entry["versions"].items()
            for shard, cluster in clusters_of(runs["cluster"]).items()
        ]
        return cls(
            {section: entries for section, entries in document.items() if entries or section in SECTIONS},
            {version.routing_key: version for version in versions},
            {name: cluster["replicas"] for name, cluster in document["clusters"].items()},
        )

    @property
    def agreements(self) -> Agreements:
        """What its use cases agree on; counted once."""
        if self.known_agreements is None:
            object.__setattr__(self, "known_agreements", Agreements(self.document["use_cases"].values()))
        assert self.known_agreements is not None  # noqa: S101 (set above)
        return self.known_agreements

    def json(self) -> bytes:
        """The document's canonical bytes: equal for equal tables."""
        return json.dumps(self.document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def read_sources(sources: Sequence[Source], *, apis: Iterable[str] = KNOWN_APIS) -> RouteTable:
    """The route table made of all sources.

    Args:
        sources: one or more; each may hold any sections, but an entry only one of them.
        apis: inference APIs that a use case may name.

    Raises:
        RouteTableError: all problems by source and line; each names file, line, field and remedy.
    """
    with gc_disabled(stays=True):
        return _read_quickly(sources, frozenset(apis)) or _read(sources, frozenset(apis))


def _read_quickly(sources: Sequence[Source], apis: frozenset[str]) -> RouteTable | None:
    """The table if it is valid JSON without problems, else None."""
    if len(sources) != 1 or len(sources[0].text) > MAX_BYTES:
        return None
    document = as_json(sources[0].text)
    return None if not document or problems(document, apis) else RouteTable.of_valid(_sections(document))


def _read(sources: Sequence[Source], apis: frozenset[str]) -> RouteTable:
    first = sources[0].name if sources else "-"
    if sum(len(source.text) for source in sources) > MAX_BYTES:
        raise RouteTableError(f"is larger than {MAX_BYTES >> 20} MB; leave something out", file=first)
    roots = [root for source in sources if (root := _parsed(source)) is not None]
    # One file may be empty or hold comments only, but not all of them: that would remove every use case.
    if all(root.value is None or root.value == {} for root in roots):
        raise RouteTableError("is empty; write use_cases, models and clusters", file=first, line=1)
    tree = merged([root for root in roots if root.value is not None])
    return RouteTable._of_tree(tree, [source.name for source in sources], apis)  # noqa: SLF001 (same module)


def _parsed(source: Source) -> Node | None:
    """The tree of a text. Errors do not quote one without sections: it may be a file that only its owner can read."""
    names = ", ".join(_ALL_SECTIONS)
    refused = RouteTableError(f"is not a route table: has none of {names}; name another file", file=source.name, line=1)
    try:
        root = parse(source.text, source.name)
    except RouteTableError as error:
        if "'" in error.problem and not _SECTION.search(source.text):
            raise refused from None
        raise
    content = root.value if root is not None else None
    if content and (not isinstance(content, dict) or not content.keys() & {*_ALL_SECTIONS}):
        raise refused
    return root


def tree_of(sources: Sequence[Source]) -> Node:
    """The tree of a valid table, which knows the file and the line of each part."""
    roots = [parse(source.text, source.name) for source in sources]
    return merged([root for root in roots if root is not None and root.value is not None])


def _sections(document: Mapping[str, Any]) -> dict[str, Any]:
    sections = {section: document.get(section, {}) for section in _ALL_SECTIONS}
    return {**sections, "use_cases": with_defaults(sections["use_cases"])}


def with_defaults(use_cases: Mapping[str, Any]) -> dict[str, Any]:
    """Valid use cases with the values of fields that every reader of a stored table needs."""
    return {name: one if "timeout" in one else {**one, "timeout": DEFAULT_TIMEOUT} for name, one in use_cases.items()}


def read_path(path: str | Path, *, apis: Iterable[str] = KNOWN_APIS) -> RouteTable:
    """The route table in a file, or in all ``*.yaml`` files of a directory.

    Raises:
        RouteTableError: it cannot be read, or is not valid.
    """
    return read_sources(sources_of(path), apis=apis)


def sources_of(path: str | Path) -> list[Source]:
    """The text of a file, or of all ``*.yaml`` files of a directory in the order of their names, except hidden ones.

    Raises:
        RouteTableError: missing, not readable, too large, or not UTF-8.
    """
    path = Path(path)
    try:
        if not path.is_dir():
            return [_source(path)]
        files = sorted(file for file in path.iterdir() if file.suffix == ".yaml" and not file.name.startswith("."))
        if not files:
            raise RouteTableError("has no *.yaml file in it; name a file, or put one there", file=str(path))
        return [_source(file) for file in files]
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise RouteTableError(
            f"{reason}; name a readable file or directory", file=str(error.filename or path)
        ) from error


def source_of(path: Path) -> Source:
    """The text of one file; see :func:`sources_of`."""
    try:
        return _source(path)
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise RouteTableError(f"{reason}; name a readable file", file=str(path)) from error


def _source(path: Path) -> Source:
    with open_regular(path) as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise RouteTableError(f"is larger than {MAX_BYTES >> 20} MB; split it, or leave something out", file=str(path))
    try:
        return Source(str(path), data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RouteTableError(
            f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8",
            file=str(path),
            line=data.count(b"\n", 0, error.start) + 1,
        ) from error


_DECIMAL = re.compile(r"-?[0-9]{1,15}\.[0-9]{1,15}", re.ASCII)


def as_json(text: str) -> dict[str, Any] | None:
    """Fast path for JSON, which is also YAML and parses a hundred times faster, but without line numbers.

    Returns:
        The mapping in a JSON text; None if it is not JSON, or if a YAML parser might read it differently.
    """
    # JSON and YAML differ in escapes and non-ASCII text; a YAML node also needs a comma or colon before it.
    if not text.lstrip().startswith("{") or "\\" in text or not text.isascii() or "\x7f" in text:
        return None
    if text.count(",") + text.count(":") > MAX_NODES:
        return None
    try:
        found = json.loads(
            text, object_pairs_hook=_each_once, parse_float=_plain, parse_int=_small, parse_constant=_refuse
        )
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and not _is_deeper(found, MAX_DEPTH) else None


def _is_deeper(value: Any, levels: int) -> bool:
    if isinstance(value, (dict, list)):
        inside = value.values() if isinstance(value, dict) else value
        return levels <= 0 or any(_is_deeper(each, levels - 1) for each in inside)
    return False


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("duplicate key")
    return found


def _small(text: str) -> int:
    if len(text) > len("-999999999999999"):
        raise ValueError(text)
    return int(text)


def _plain(text: str) -> float:
    if not _DECIMAL.fullmatch(text):
        raise ValueError(text)
    return float(text)


def _refuse(text: str) -> Any:
    raise ValueError(text)
