"""A lab whose connections are secured, with whoever tries to get in where they do not belong."""

from __future__ import annotations

import json
import re
import secrets
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import psutil

from lab.client.call import call
from lab.errors import DeadlineError
from lab.identity import Identity
from lab.identity.authority import Authority, folder_of
from lab.lab import Lab
from lab.runtime.identities import Identities
from lab.runtime.state import LabState
from lab.transport.security import MTLS, Security
from lab.waiting import eventually
from models.proto.ranking.v1 import ranking_pb2
from tests.forging import forged
from tests.labs import TWO_CALLERS_ROUTES, TWO_CALLERS_SPEC, lab_up, write_spec
from tests.negative.loris import Lorises
from tests.negative.wire import Answer, Header, Wire, tls_context

OURS, THEIRS = "ContinueWatchingRanking", "SearchRanking"
OUR_KEY, THEIR_KEY = b"cw-ranker.v1", b"search-ranker.v1"
KEY_HEADER = b"x-routing-key"
KEY: Header = (KEY_HEADER, OUR_KEY)
MODEL, THEIR_MODEL = "ml-cluster-1-a", "ml-cluster-2-a"
EDGE = """
[extra_roles.edge]
user_rps = 1
"""
DAWDLED_AT = ("gateway-1", "homepage-sidecar", "central-envoy", "control-plane", MODEL)
SOON = timedelta(seconds=20)
_HERE = {"127.0.0.1"}
_UNKNOWN = "?"  # the attack could not be carried out


def rank(use_case: str = OURS, caller: str = "homepage", tenant: str = "") -> bytes:
    """A request, serialised."""
    message = ranking_pb2.RankRequest(titles=[ranking_pb2.Title(id="t1")])
    message.envelope.use_case, message.envelope.request_id = use_case, secrets.token_hex(4)
    context = message.envelope.context
    context.caller, context.tenant, context.user_id = caller, tenant, "u1"
    return message.SerializeToString()


def envelope_header() -> Header:
    """The envelope of :func:`rank`, for a gateway that does not parse the body."""
    envelope = ranking_pb2.RankRequest.FromString(rank()).envelope
    return b"x-envelope-bin", b64encode(envelope.SerializeToString())


@dataclass(slots=True)
class Scene:
    """What an attacker has to do with.

    Attributes:
        folder: for what is made on the way.
        units: name → address.
        lorises: have been at some of the units from the beginning.
    """

    lab: Lab
    folder: Path
    units: dict[str, str] = field(init=False)
    pids: dict[str, int] = field(init=False)
    lorises: Lorises = field(init=False)
    _certificates: dict[str, Security] = field(default_factory=dict)

    def __post_init__(self) -> None:
        units = self.lab.status().units
        self.units = {unit.name: unit.address for unit in units}
        self.pids = {unit.name: unit.pid for unit in units}
        self.lorises = Lorises({unit: self.units[unit] for unit in DAWDLED_AT})

    def security(self, unit: str = "homepage") -> Security:
        """A unit's own certificate."""
        return Security(MTLS, str(Identities(self.lab.folder).of(unit)))

    def made_up(self, name: str, identity: Identity, *, lifetime_s: float | None = None) -> Security:
        """A certificate of the lab's authority that the lab itself would not make."""
        return self._issued(Authority.load(Identities(self.lab.folder).folder), name, identity, lifetime_s)

    def with_both(self, *identities: Identity) -> Security:
        """A certificate of the lab's authority that names several units."""
        return forged(Authority.load(Identities(self.lab.folder).folder), "several", identities)

    def of_strangers(self, identity: Identity) -> Security:
        """A certificate that says the same, by another authority."""
        strangers = self.folder / "strangers"
        authority = (Authority.load if strangers.exists() else _found)(strangers)
        return self._issued(authority, "stranger", identity, None)

    def _issued(self, authority: Authority, name: str, identity: Identity, lifetime_s: float | None) -> Security:
        if name not in self._certificates:
            authority.issue(name, identity, _HERE, lifetime_s=lifetime_s)
            self._certificates[name] = Security(MTLS, str(folder_of(authority.folder, name)))
        return self._certificates[name]

    def connect(self, unit: str, security: Security | None = None) -> Wire:
        """A connection, in the name of the caller ``homepage`` if nobody else's; to a sidecar, as its pod does."""
        return Wire(self.units[unit], None if unit.endswith("sidecar") else tls_context(security or self.security()))

    def ask(self, unit: str, *headers: Header, body: bytes | None = None) -> Answer:
        """One call, on its own connection."""
        with self.connect(unit) as wire:
            return wire.ask(*headers, body=rank() if body is None else body)

    @contextmanager
    def words_of(self, unit: str, pattern: str) -> Iterator[list[str]]:
        """What the unit's log says of what is done meanwhile, once it says something like ``pattern``."""
        log = self.lab.folder / "units" / unit / "log"
        begin, found = log.stat().st_size, list[str]()
        yield found

        def said() -> str:
            match = re.search(pattern, log.read_bytes()[begin:].decode(errors="replace"))
            return match[0] if match else ""

        found.append(eventually(f"{unit} says {pattern!r}", said, within=SOON))

    def counted(self, unit: str, counter: str) -> int:
        """What an Envoy has counted."""
        admin = LabState.of(self.lab.folder).plan.unit(unit).admin
        assert admin is not None
        with urllib.request.urlopen(f"http://{admin.outside}/stats?format=json&filter=^{counter}$", timeout=5) as page:
            found = json.load(page)["stats"]
        return int(found[0]["value"]) if found else 0

    def memory_mb(self, unit: str) -> float:
        """A unit's resident memory; 0 if it has been restarted."""
        try:
            return float(psutil.Process(self.pids[unit]).memory_info().rss) / 1e6
        except psutil.NoSuchProcess:
            return 0.0

    def good_call(self, way: str) -> str:
        """Empty if a call that is as it should be is answered as it should be, by that way; else what came."""
        if way == "proxyless":
            return call(self.lab.endpoints().callers["homepage"], OURS, way, {"user_id": "u1"}).model.replace(
                "cw-ranker", ""
            )
        if way == "pages":
            from tests.negative.cases import edge  # noqa: PLC0415 (it needs a scene)

            page = edge.asked(self, edge.good_token(self))
            return "" if page.status == "OK" else f"{page}"
        if way == "gateway-passthrough":
            answer = self.ask("gateway-1", envelope_header(), body=b"")
        else:
            unit = {"gateway": "gateway-1", "gateway-header": "central-envoy", "mesh": "homepage-sidecar"}[way]
            answer = self.ask(unit, KEY)
        return "" if answer.status == "OK" and b"cw-ranker" in answer.body else f"{answer}"


class NotRefusedError(Exception):
    """An attack was not refused; has its answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{answer}")
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Tried:
    """How an attack ended, after how many milliseconds, and the unit's memory before and after."""

    answer: Answer
    took_ms: float
    before_mb: float
    after_mb: float


@dataclass(frozen=True, slots=True)
class Case:
    """Something that must not work.

    Attributes:
        attack: what is tried.
        way: topology.
        by: unit that refuses it.
        status: as a client sees it.
        reason: pattern of what a client is told, or else of what the unit's log says.
        attempt: tries it.
    """

    attack: str
    way: str
    by: str
    status: str
    reason: str
    attempt: Callable[[Scene], Answer]

    @property
    def name(self) -> str:
        """Unique."""
        return f"{self.way}: {self.attack}, {self.by}"

    def tried(self, scene: Scene) -> Tried:
        """How it ends, which need not be as it should."""
        before, began = scene.memory_mb(self.by), time.monotonic()
        try:
            answer = self.attempt(scene)
        except NotRefusedError as error:
            answer = error.answer
        except TimeoutError:
            answer = Answer("OPEN", "no answer")
        except (AssertionError, DeadlineError, OSError) as error:
            answer = Answer(_UNKNOWN, f"{error}")
        return Tried(answer, (time.monotonic() - began) * 1e3, before, scene.memory_mb(self.by))

    def is_refused(self, answer: Answer) -> bool:
        """Whether it ended as it should."""
        return self.status == answer.status and re.search(self.reason, answer.reason) is not None

    def row(self, answer: Answer) -> str:
        """The begin of a line of the page of refusals: the same whenever the answer is."""
        return f"{self._place} {answer.status} | {self.printable(answer.reason, 160)} |"

    def is_on(self, row: str) -> bool:
        """Whether a line of that page is of this attack."""
        return row.startswith(self._place)

    @property
    def _place(self) -> str:
        return f"| {self.attack} | {self.way} | {self.by} |"

    @staticmethod
    def printable(reason: str, most: int) -> str:
        """A reason in a cell of a table."""
        reason = re.sub(r"127\.0\.0\.1:[0-9]+", "ADDRESS", reason)
        reason = "".join(each if each.isprintable() else "�" for each in reason).replace("|", "\\|")
        return reason[:most] or "—"


def counted_as(counter: str, unit: str, attempt: Callable[[Scene], Answer]) -> Callable[[Scene], Answer]:
    """The attempt, with what the Envoy counts it as for a reason."""

    def attempt_and_look(scene: Scene) -> Answer:
        before = scene.counted(unit, counter)
        answer = attempt(scene)
        if answer.status not in {"RESET", "CLOSED", "GOAWAY"}:
            raise NotRefusedError(answer)
        try:
            eventually(f"{unit} counts {counter}", lambda: scene.counted(unit, counter) > before, within=SOON)
        except DeadlineError:
            raise NotRefusedError(answer) from None
        return Answer(answer.status, counter)

    return attempt_and_look


@contextmanager
def standing(folder: Path, security: str = MTLS) -> Iterator[Scene]:
    """The lab, up, in a folder that other users of the machine can enter."""
    folder.chmod(0o755)
    spec = write_spec(folder, TWO_CALLERS_SPEC + EDGE, TWO_CALLERS_ROUTES)
    with lab_up(folder, spec=spec, security=security) as lab:
        yield Scene(lab, folder)


def _found(folder: Path) -> Authority:
    return Authority.create(folder, lifetime_s=3600)
