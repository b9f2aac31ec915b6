"""Connections by those who cannot show who they are, or are not who may come."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from lab.identity import Identity
from lab.transport.security import Security
from models.proto.control.v1 import resolver_pb2
from tests.negative.scene import KEY, MODEL, OURS, Case, NotRefusedError, Scene, rank
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
# What is asked of units that are not models and do not stand before one.
_OTHERS = {
    "control-plane": ("/control.v1.Admin/GetStatus", b""),
    "homepage-resolver": (
        "/control.v1.Resolver/Resolve",
        resolver_pb2.ResolveRequest(use_case=OURS).SerializeToString(),
    ),
}
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


def _asks(scene: Scene, unit: str, context: ssl.SSLContext | None) -> Answer:
    """What the unit's API answers."""
    with Wire(scene.units[unit], context) as wire:
        path, body = _OTHERS.get(unit) or (RANK, rank())
        return wire.ask(KEY, body=body, path=path)


def _shakes_hands(attack: str, unit: str, shown: Callable[[Scene], Security | None]) -> Callable[[Scene], Answer]:
    def alert_for(scene: Scene) -> str:
        context = tls_context(shown(scene))
        alert = why_no_handshake(scene.units[unit], context)
        if alert is None:
            raise NotRefusedError(_asks(scene, unit, context))
        return alert

    def attempt(scene: Scene) -> Answer:
        if unit == "central-envoy":
            return Answer("UNAVAILABLE", alert_for(scene))
        with scene.words_of(unit, _BY_GRPC[attack]) as words:
            alert = alert_for(scene)
        return Answer("UNAVAILABLE", f"{alert} {words[0]}".strip())

    return attempt


def _says_it_in_plaintext(unit: str) -> Callable[[Scene], Answer]:
    def ask(scene: Scene) -> Answer:
        answer = _asks(scene, unit, None)
        if answer.status not in {"CLOSED", "GOAWAY"}:
            raise NotRefusedError(answer)
        return answer

    def attempt(scene: Scene) -> Answer:
        if unit == "central-envoy":
            return Answer("UNAVAILABLE", f"connection {ask(scene).status.lower()}")
        with scene.words_of(unit, _BY_GRPC["plaintext"]) as words:
            ask(scene)
        return Answer("UNAVAILABLE", words[0])

    return attempt


def _is_two(unit: str) -> Callable[[Scene], Answer]:
    """With a certificate of the lab's authority for a unit that may come, and for another one."""
    may_come = Identity("operator", "cli") if unit == "control-plane" else _HOMEPAGE

    def attempt(scene: Scene) -> Answer:
        return _asks(scene, unit, tls_context(scene.with_both(may_come, Identity("caller", "search"))))

    return attempt


def _is_somebody_else(unit: str) -> Callable[[Scene], Answer]:
    """With a certificate of the lab, but of a role that has no business there."""

    def attempt(scene: Scene) -> Answer:
        security = scene.security("search-resolver")
        if unit == "central-envoy":
            alert = why_no_handshake(scene.units[unit], tls_context(security))
            if alert is None:
                raise NotRefusedError(_asks(scene, unit, tls_context(security)))
            return Answer("UNAVAILABLE", alert)
        return _asks(scene, unit, tls_context(security))

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
