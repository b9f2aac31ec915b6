"""The lab's spec, a small TOML file: topologies, callers, and settings of the units.

Models, their clusters and who may ask for them are in the route table, as they change while the lab is up.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from lab import CHECKOUT, FILES, clock
from lab.bounds import COUNT, PORT, SECONDS
from lab.errors import InputError, SpecError
from lab.links import ROLE as LINK
from lab.links import LinksSpec
from lab.page_call_tree import Page, calls_of
from lab.pickers import DEFAULT_PICKER, GATEWAY, NO_WAITING, PICKERS, Cannot, Chooses, Source, Stale
from lab.reading import read_text, require_shallow, where
from lab.topologies import TOPOLOGIES
from models.tokens.settings import TokenSettings

SIZES = {
    "mini": CHECKOUT / "lab" / "specs" / "mini.toml",
    "default": FILES / "lab.toml",
    "full": CHECKOUT / "lab" / "specs" / "full.toml",
    "links": CHECKOUT / "lab" / "specs" / "links.toml",
    "pages": CHECKOUT / "lab" / "specs" / "pages.toml",
    "tokens": CHECKOUT / "lab" / "specs" / "tokens.toml",
}
"""Specs that come with the lab, by size."""

HTTPS = "https://"
"""Begins the address of a receiver of traces with TLS."""

_MAX_BYTES = 128 * 1024  # tomllib reads a megabyte a second,
_MOST_PEM = 32 * 1024  # characters; they are in each unit's environment
_MAX_DOTS = 32  # but takes a minute for a name of 50,000 parts
_NAME = r"^[a-z][a-z0-9-]{0,30}$"
_Name = Annotated[str, Field(pattern=_NAME)]
_Setting = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")]
_PagePart = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,62}$")]


def _known(kinds: Mapping[str, Any]) -> AfterValidator:
    def check(name: str) -> str:
        try:
            return str(kinds[name].name)
        except InputError as error:
            raise ValueError(str(error)) from None

    return AfterValidator(check)


def _receiver(text: str) -> str:
    host, _, port = text.removeprefix(HTTPS).rpartition(":")
    if text and not (re.fullmatch("[A-Za-z0-9.-]+", host) and re.fullmatch("[0-9]{1,5}", port) and int(port) in PORT):
        raise ValueError(
            f"{text[:60]!r} is not an address; write HOST:PORT, e.g. 127.0.0.1:4317, or https://HOST:PORT for TLS"
        )
    return text


def _of_tokens(values: dict[str, float]) -> dict[str, float]:
    TokenSettings.of(values)
    return values


def _default_topologies() -> list[str]:
    return [each.name for each in TOPOLOGIES.values() if each.in_default_lab]


class _Part(BaseModel):
    # Built when first used: most commands read no spec.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)


class CallerSpec(_Part):
    """A service that calls models.

    Attributes:
        page: see :data:`lab.page_call_tree.Page`. Empty for callers whose page the lab knows, see
            ``services/caller/pages.py``.
        topology: by which it sends its own requests, until `lab callers use` moves it; the lab's first if empty.
    """

    topology: str = ""
    page: Annotated[list[Annotated[list[_PagePart], Field(max_length=64)]], Field(max_length=64)] = []


class GatewaySpec(_Part):
    """The API gateway."""

    replicas: int = Field(default=2, ge=1, le=16)


class LeaseSpec(_Part):
    """How long a caller may reuse a decision, seconds."""

    ttl_s: float = Field(default=30.0, gt=0, le=SECONDS.high)
    max_stale_s: float = Field(default=300.0, gt=0, le=SECONDS.high)


class StubSpec(_Part):
    """How the stub models behave at first.

    Attributes:
        latency: ``constant:MS``, ``lognormal:MEDIAN_MS,SIGMA`` or ``load:MS,KNEE``.
        error_rate: share of requests answered with an error, 0 to 1.
        warm_up_ms: time to load a model version.
        concurrency_limit: requests that a replica serves at the same time; 0 for no limit.
        drain_s: seconds in which a replica that is asked to end may finish its requests; then it aborts the rest.
        tenant_concurrency_limit: requests of one tenant that a replica serves at the same time; 0 for no limit.
        max_connection_age_s: seconds after which clients are asked to reconnect, so that a connection balancer chooses
            again; 0 for never.
        tokens: settings of models that generate tokens, see :class:`models.tokens.settings.TokenSettings`.
    """

    latency: str = Field(
        default="constant:0", pattern=r"^(constant:[0-9.]+|lognormal:[0-9.]+,[0-9.]+|load:[0-9.]+,[0-9.]+)$"
    )
    error_rate: float = Field(default=0.0, ge=0, le=1)
    warm_up_ms: float = Field(default=0.0, ge=0, le=600_000)
    concurrency_limit: int = Field(default=0, ge=0, le=COUNT.high)
    drain_s: float = Field(default=5.0, ge=0, le=600)
    tenant_concurrency_limit: int = Field(default=0, ge=0, le=COUNT.high)
    max_connection_age_s: float = Field(default=0.0, ge=0, le=SECONDS.high)
    tokens: Annotated[dict[str, float], AfterValidator(_of_tokens)] = {}


class SignalSpec(_Part):
    """The signal of the replicas' load, for pickers of the gateway that go by one.

    Attributes:
        source: ``scraped`` from the replicas, ``counted`` at dispatch, or ``reserved`` at the pick.
        age_ms: time between two readings; 0 for a count that is always of now.
        stale: what a picker does with readings that are too old, see :data:`lab.pickers.Stale`.
        stale_ms: age from which a reading is too old; by default that of llm-d's ``--metrics-staleness-threshold``.
        release_ms: time after which a reservation is released though its attempt has not ended.
    """

    source: Source = "scraped"
    age_ms: float = Field(default=50.0, ge=0, le=600_000)
    stale: Stale = "use"
    stale_ms: float = Field(default=2_000.0, gt=0, le=600_000)
    release_ms: float = Field(default=10_000.0, gt=0, le=600_000)

    @model_validator(mode="after")
    def _scrapes_with_pauses(self) -> Self:
        if self.source == "scraped" and self.age_ms < 1:
            raise ValueError("age_ms: a signal is scraped every 1 ms at most; take 1 or more, or source counted")
        return self


class SecuritySpec(_Part):
    """How connections are secured.

    Attributes:
        mode: ``plaintext``, or ``mtls``: every unit has a certificate, and both ends of a connection present theirs.
        lifetime_s: validity of a certificate, seconds.
    """

    mode: Literal["plaintext", "mtls"] = "mtls"
    lifetime_s: float = Field(default=86_400.0, ge=2, le=2_592_000)


class TracesSpec(_Part):
    """Which requests are traced, and where their spans go.

    Attributes:
        rate: share of requests that are traced, 0 to 1; a request with a ``traceparent`` follows its sampled flag.
        otlp: ``host:port`` of a receiver of OTLP over gRPC; ``https://host:port`` for one with TLS; empty for a
            collector of the lab.
        otlp_ca: certificates of the authorities that the receiver's certificate comes from, as PEM; for TLS only.
    """

    rate: float = Field(default=1.0, ge=0, le=1)
    otlp: Annotated[str, AfterValidator(_receiver)] = ""
    otlp_ca: str = Field(default="", max_length=_MOST_PEM)

    @model_validator(mode="after")
    def _has_what_tls_needs(self) -> Self:
        if bool(self.otlp_ca) != self.otlp.startswith(HTTPS):
            raise ValueError(
                "a receiver with TLS is https://HOST:PORT, and needs the certificate of its authority: --otlp-ca FILE"
            )
        return self


class LabSpec(_Part):
    """A whole lab.

    Attributes:
        topologies: their names; the first is the callers' default. All that are in default labs if left out.
        routes: the route table that is published first; relative to the spec's folder.
        callers: by name.
        picker: picks the replica that gets a request, at each place that does; one of :data:`lab.pickers.PICKERS`.
        resolver: ``sidecar`` for one beside each caller, ``shared`` for one that all callers use.
        log_requests: whether callers, resolvers and models write access logs, as gateways and Envoys always do.
        metrics: whether units serve metrics for Prometheus; Envoys always do.
        control_planes: number of control planes that serve the same revisions; the lab survives the loss of one.
        store: store of the revisions: ``postgresql://…``, or if empty an SQLite file in the lab's folder.
        idle_clusters: clusters that the first route table does not use, with their number of replicas, as targets for
            moving a model.
        signal: of the replicas' load, for pickers.
        receipt_key: secret of the models, see :mod:`models.stub.receipts`; `lab up` makes it.
        clock: of the lab, see :mod:`lab.clock`; `lab up` fixes it. Empty if units share no monotonic clock.
        clusters_idle_after_s: seconds after which an Envoy drops a cluster that it does not use; 0 for never.
        clusters_unasked: an Envoy that may use at most this many routing keys gets all their clusters before any
            request, and keeps them: it needs no control plane for them. 48 KB of its memory each.
        traces: traces of requests; None for none.
        log_format: of the units' logs, ``text`` or ``json``, lines of JSON with the same keys in all.
        extra_roles: roles of units that no topology needs, e.g. ``edge``, each with its settings.
        links: between zones; None for a lab without zones, whose units all reach each other directly.
    """

    topologies: list[Annotated[str, _known(TOPOLOGIES)]] = Field(
        default_factory=_default_topologies, min_length=1, max_length=64
    )
    routes: Path = Path("routes.yaml")
    callers: dict[_Name, CallerSpec] = Field(min_length=1, max_length=1_000)
    picker: Annotated[str, _known(PICKERS)] = DEFAULT_PICKER
    resolver: Literal["sidecar", "shared"] = "sidecar"
    log_requests: bool = False
    metrics: bool = False
    control_planes: int = Field(default=1, ge=1, le=8)
    store: str = Field(default="", pattern=r"^(postgres(ql)?://\S+)?$")
    idle_clusters: Annotated[dict[_Name, Annotated[int, Field(ge=1, le=64)]], Field(max_length=1_000)] = {}
    clusters_idle_after_s: float = Field(default=3_600.0, ge=0, le=604_800)
    clusters_unasked: int = Field(default=64, ge=0, le=10_000)
    receipt_key: str = Field(default="", pattern="^[0-9a-f]{0,64}$")
    clock: str = Field(default="", pattern=clock.PATTERN)
    gateway: GatewaySpec = Field(default_factory=GatewaySpec)
    leases: LeaseSpec = Field(default_factory=LeaseSpec)
    stub: StubSpec = Field(default_factory=StubSpec, validate_default=True)
    signal: SignalSpec = Field(default_factory=SignalSpec)
    security: SecuritySpec = Field(default_factory=SecuritySpec)
    traces: TracesSpec | None = None
    log_format: Literal["text", "json"] = "text"
    links: LinksSpec | None = None
    extra_roles: Annotated[dict[_Name, dict[_Setting, float]], Field(max_length=64)] = {}

    @field_validator("picker")
    @classmethod
    def _picks_on_every_topology(cls, picker: str, info: ValidationInfo) -> str:
        for topology in map(TOPOLOGIES.__getitem__, info.data.get("topologies", ())):
            configured = PICKERS[picker].at(topology.picker_place)
            if isinstance(configured, Chooses) and configured.queues and topology.balancer != GATEWAY:
                configured = Cannot(NO_WAITING)
            if picker != DEFAULT_PICKER and isinstance(configured, Cannot):
                raise ValueError(
                    f"topology {topology.name} cannot pick by {picker}: {configured.reason}; leave it out, or name "
                    "another picker"
                )
            if PICKERS[picker].reads_prompt and not (topology.capabilities.reads_payload or topology.aide_reads_prompt):
                raise ValueError(f"topology {topology.name} cannot pick by {picker}: it does not read the prompt")
        return picker

    @field_validator("signal")
    @classmethod
    def _is_scraped_if_reports_are_needed(cls, signal: SignalSpec, info: ValidationInfo) -> SignalSpec:
        made = PICKERS[picker := info.data.get("picker", DEFAULT_PICKER)].at(GATEWAY)
        if isinstance(made, Chooses) and made.needs_reports and signal.source != "scraped":
            raise ValueError(f"picker {picker} goes by what replicas report: set source in [signal] to scraped")
        return signal

    @field_validator("stub")
    @classmethod
    def _has_what_its_picker_asks_for(cls, stub: StubSpec, info: ValidationInfo) -> StubSpec:
        made = PICKERS[picker := info.data.get("picker", DEFAULT_PICKER)].at(GATEWAY)
        published = stub.tokens.get("kv_events", 0)
        if isinstance(made, Chooses) and made.follows_kv_events and not published:
            raise ValueError(f"picker {picker} follows KV events: set kv_events in [stub.tokens] to 1 or 2")
        if stub.tokens.get("prefill_replicas") and not (isinstance(made, Chooses) and made.picks_prefillers):
            raise ValueError(f"prefill_replicas: picker {picker} never asks them; set picker to prefill-decode")
        if published and find_spec("msgpack") is None:
            raise ValueError("kv_events needs msgpack, which is not installed: make .venv/with-kv-events")
        return stub

    @field_validator("callers")
    @classmethod
    def _no_page_contains_itself(cls, callers: dict[str, CallerSpec]) -> dict[str, CallerSpec]:
        for name in callers:
            calls_of({each: caller.page for each, caller in callers.items()}, name)
        return callers

    @field_validator("callers")
    @classmethod
    def _each_uses_a_topology_of_the_lab(
        cls, callers: dict[str, CallerSpec], info: ValidationInfo
    ) -> dict[str, CallerSpec]:
        there = info.data.get("topologies", ())
        for name, caller in callers.items():
            if caller.topology and caller.topology not in there:
                raise ValueError(
                    f"caller {name} uses {caller.topology}, which is not among the topologies; use one of "
                    f"{', '.join(there)}"
                )
        return callers

    @property
    def pages(self) -> dict[str, Page]:
        """The pages that it gives, by caller."""
        return {name: caller.page for name, caller in self.callers.items()}

    @property
    def keeps_traces(self) -> bool:
        """Whether the lab has a collector."""
        return self.traces is not None and not self.traces.otlp

    @property
    def roles(self) -> frozenset[str]:
        """Roles that its topologies need and that it names itself, beside callers, models and control planes."""
        links = (LINK,) if self.links else ()
        return frozenset(
            (*links, *self.extra_roles, *(role for name in self.topologies for role in TOPOLOGIES[name].roles))
        )


def spec_file(named: Path) -> Path:
    """The file of a spec: ``named`` itself if it exists, else the one of :data:`SIZES` with that name."""
    return named if named.exists() or str(named) not in SIZES else SIZES[str(named)]


def read_spec(path: Path) -> LabSpec:
    """Reads a spec.

    Raises:
        SpecError: one line with file, line, field and remedy.
    """
    try:
        text = read_text(path, _MAX_BYTES)
    except OSError as error:
        raise SpecError(
            f"{path}: cannot be read: {error.strerror}; name a spec, or one of {', '.join(SIZES)}"
        ) from error
    except ValueError as error:
        raise SpecError(f"{where(path, error)}: {error}; save the file as UTF-8") from error
    for number, line in enumerate(text.splitlines(), 1):
        if line.count(".") > _MAX_DOTS and not line.lstrip().startswith("#"):
            raise SpecError(f"{path}:{number}: has more than {_MAX_DOTS} dots; write shorter names")
    try:
        document = tomllib.loads(text)
        require_shallow(document)
    except (ValueError, RecursionError) as error:
        at = re.search(r"at line (\d+)", str(error))
        reason = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "a value is too long, or nested too deep"
        raise SpecError(f"{path}:{at[1] if at else 1}: not TOML: {reason}; correct it") from error
    try:
        spec = LabSpec.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        field = [str(part) for part in first["loc"]]
        raise SpecError(f"{path}:{_line_of(text, field)}: {'.'.join(field)}: {_remedy(first)}") from None
    return spec.model_copy(update={"routes": path.parent / spec.routes})


def override(
    spec: LabSpec,
    *,
    topologies: Sequence[str] = (),
    security: str | None = None,
    log_requests: bool = False,
    traces: float | None = None,
    otlp: str = "",
    otlp_ca: Path | None = None,
    log_format: str = "",
    metrics: bool = False,
    picker: str = "",
    roles: Sequence[str] = (),
) -> LabSpec:
    """The spec, changed by the options of the command line; what they leave empty stays.

    Args:
        spec: as it was read.
        topologies: instead of the spec's; names that begin with ``+`` are added to them.
        security: instead of the spec's mode.
        log_requests: whether all units are to write access logs.
        traces: share of requests to trace, instead of the spec's.
        otlp: where their spans go, instead of the spec's; without a share, those of all requests.
        otlp_ca: file of the authorities' certificates, for a receiver with TLS.
        log_format: of the units' logs, instead of the spec's.
        metrics: whether all units are to serve metrics.
        picker: instead of the spec's.
        roles: that no topology needs, besides the spec's.

    Raises:
        SpecError: one line with the option and its remedy.
    """
    document = spec.model_dump()
    if topologies:
        instead = [name for name in topologies if not name.startswith("+")]
        added = [name.removeprefix("+") for name in topologies if name.startswith("+")]
        document["topologies"] = list(dict.fromkeys([*(instead or spec.topologies), *added]))
    if security:
        document["security"]["mode"] = security
    if log_requests:
        document["log_requests"] = True
    if log_format:
        document["log_format"] = log_format
    if picker:
        document["picker"] = picker
    document["extra_roles"] |= {role: {} for role in roles if role not in spec.extra_roles}
    authorities = _read_authorities(otlp_ca) if otlp_ca else None
    given = {"rate": traces, "otlp": otlp or None, "otlp_ca": authorities}
    if given := {name: value for name, value in given.items() if value is not None}:
        document["traces"] = {**(document["traces"] or {}), **given}
    if metrics:
        document["metrics"] = True
    try:
        return LabSpec.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        named = {
            "topologies": "--topology",
            "otlp_ca": "--otlp-ca",
            "otlp": "--otlp",
            "log_format": "--log-format",
            "stub": "--picker",
            "extra_roles": "--role",
            "signal": "--picker",
        }
        option = next((named[part] for part in first["loc"] if part in named), f"--{first['loc'][0]}")
        if first["loc"] == ("traces",):  # the receiver's address and authorities do not fit
            option = "--otlp"
        raise SpecError(f"{option}: {_remedy(first)}") from None


def _read_authorities(file: Path) -> str:
    try:
        text = read_text(file, _MOST_PEM)
    except OSError as error:
        raise SpecError(f"--otlp-ca: {file}: cannot be read: {error.strerror}; name a file of PEM") from error
    except ValueError as error:
        raise SpecError(f"--otlp-ca: {where(file, error)}") from error
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise SpecError(f"--otlp-ca: {file}: has no certificate; name a file of PEM")
    return text


def _remedy(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "unknown field; remove it"
    if error["type"] == "missing":
        return "is missing; add it"
    if error["loc"][:1] == ("store",):  # its value may contain a password
        return "not an address of a database; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return f"{error['msg']}, found {str(error['input'])[:60]!r}"


def _line_of(text: str, field: list[str]) -> int:
    """Line of a field, or of the innermost table around it."""
    lines = text.splitlines()
    best = 1
    for depth in range(1, len(field) + 1):
        *tables, key = field[:depth]
        header = re.compile(rf"^\s*\[\s*{re.escape('.'.join(field[:depth]))}\s*\]")
        assignment = re.compile(rf"^\s*\"?{re.escape(key)}\"?\s*=")
        inside = not tables
        for number, line in enumerate(lines, start=1):
            if line.lstrip().startswith("["):
                inside = line.strip() == f"[{'.'.join(tables)}]"
            if header.match(line) or (inside and assignment.match(line)):
                best = number
                break
    return best
