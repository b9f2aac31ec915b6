"""Connections by those who cannot show who they are, or are not who may come."""

from __future__ import annotations

from collections.abc import Callable

from lab.identity import Identity
from lab.transport.security import Security
from tests.negative.scene import KEY, MODEL, Case, Scene, rank
from tests.negative.wire import RANK, Answer, Wire, tls_context, why_no_handshake

# Way → who is spoken to on it.
_DOORS = (
    ("gateway", "gateway-1"),
    ("mesh", "homepage-resolver"),
    ("mesh", MODEL),
    ("gateway-header", "central-envoy"),
    ("proxyless", "control-plane"),
    ("proxyless", MODEL),
)
_HOMEPAGE = Identity("caller", "homepage")
_SHOWN: dict[str, Callable[[Scene], Security | None]] = {
    "no certificate": lambda _: None,
    "a certificate of another authority": lambda scene: scene.of_strangers(_HOMEPAGE),
    "an expired certificate": lambda scene: scene.made_up("expired", _HOMEPAGE, lifetime_s=-1),
}
# As an Envoy tells it the client, and as gRPC tells its own log and nobody else.
_BY_ENVOY = {
    "no certificate": "CERTIFICATE_REQUIRED",
    "a certificate of another authority": "ALERT_UNKNOWN_CA",
    "an expired certificate": "CERTIFICATE_EXPIRED",
    "another unit's certificate": "CERTIFICATE_UNKNOWN",
}
_BY_GRPC = {
    "no certificate": "PEER_DID_NOT_RETURN_A_CERTIFICATE",
    "a certificate of another authority": "CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate",
    "an expired certificate": "CERTIFICATE_VERIFY_FAILED: certificate has expired",
    "plaintext": "WRONG_VERSION_NUMBER",
}


def _shakes_hands(attack: str, unit: str, shown: Callable[[Scene], Security | None]) -> Callable[[Scene], Answer]:
    def attempt(scene: Scene) -> Answer:
        context = tls_context(shown(scene))
        if unit == "central-envoy":
            return Answer("UNAVAILABLE", why_no_handshake(scene.units[unit], context))
        with scene.words_of(unit, _BY_GRPC[attack]) as words:
            alert = why_no_handshake(scene.units[unit], context)
        return Answer("UNAVAILABLE", f"{alert} {words[0]}".strip())

    return attempt


def _says_it_in_plaintext(unit: str) -> Callable[[Scene], Answer]:
    def attempt(scene: Scene) -> Answer:
        if unit == "central-envoy":
            with Wire(scene.units[unit]) as wire:
                return Answer("UNAVAILABLE", f"connection {wire.ask(KEY, body=rank()).status.lower()}")
        with scene.words_of(unit, _BY_GRPC["plaintext"]) as words, Wire(scene.units[unit]) as wire:
            assert wire.ask(KEY, body=rank()).status in {"CLOSED", "GOAWAY"}
        return Answer("UNAVAILABLE", words[0])

    return attempt


_PATHS = {"control-plane": "/control.v1.Admin/GetStatus", "homepage-resolver": "/control.v1.Resolver/Resolve"}


def _is_two(unit: str) -> Callable[[Scene], Answer]:
    """With a certificate of the lab's authority for a unit that may come, and for another one."""
    may_come = Identity("operator", "cli") if unit == "control-plane" else _HOMEPAGE

    def attempt(scene: Scene) -> Answer:
        with scene.connect(unit, scene.with_both(may_come, Identity("caller", "search"))) as wire:
            return wire.ask(KEY, body=rank(), path=_PATHS.get(unit, RANK))

    return attempt


def _is_somebody_else(unit: str) -> Callable[[Scene], Answer]:
    """With a certificate of the lab, but of a role that has no business there."""

    def attempt(scene: Scene) -> Answer:
        security = scene.security("search-resolver")
        if unit == "central-envoy":
            return Answer("UNAVAILABLE", why_no_handshake(scene.units[unit], tls_context(security)))
        with scene.connect(unit, security) as wire:
            return wire.ask(KEY, body=b"", path=_PATHS.get(unit, RANK))

    return attempt


def _cases() -> list[Case]:
    cases = []
    for way, unit in _DOORS:
        reasons = _BY_ENVOY if unit == "central-envoy" else _BY_GRPC
        for attack, shown in _SHOWN.items():
            attempt = _shakes_hands(attack, unit, shown)
            cases.append(Case(attack, way, unit, "UNAVAILABLE", reasons[attack], attempt))
        reason = "connection closed" if unit == "central-envoy" else reasons["plaintext"]
        cases.append(Case("plaintext", way, unit, "UNAVAILABLE", reason, _says_it_in_plaintext(unit)))
        reason = "names 2 identities" if unit == "central-envoy" else "does not name exactly one identity"
        cases.append(Case("a certificate of two units", way, unit, "PERMISSION_DENIED", reason, _is_two(unit)))
        attack, attempt = "another unit's certificate", _is_somebody_else(unit)
        if unit == "central-envoy":
            cases.append(Case(attack, way, unit, "UNAVAILABLE", _BY_ENVOY[attack], attempt))
        else:
            refused = r"not for spiffe://lab.internal/resolver/search-resolver; for"
            cases.append(Case(attack, way, unit, "PERMISSION_DENIED", refused, attempt))
    return cases


CERTIFICATES = tuple(_cases())
