"""Routing keys that nobody was given, in every shape."""

from __future__ import annotations

from collections.abc import Callable

from tests.negative.scene import KEY, KEY_HEADER, MODEL, OUR_KEY, THEIR_KEY, THEIR_MODEL, Case, Scene, counted_as
from tests.negative.wire import Answer, Header

SHAPES: dict[str, list[bytes]] = {
    "no key": [],
    "an empty key": [b""],
    "a padded key": [b" cw-ranker.v1 "],
    "the key twice": [OUR_KEY, OUR_KEY],
    "the key, then another caller's": [OUR_KEY, THEIR_KEY],
    "another caller's key, then the own": [THEIR_KEY, OUR_KEY],
    "a key that is not ASCII": ["cw-ränker.v1".encode()],
    "a key that is not UTF-8": [b"cw-ranker.v1\xff\xfe"],
    "the control plane's cluster": [b"xds"],
    "the shadow copies' cluster": [b"copies"],
    "a wildcard": [b"*"],
}
# HTTP/2 itself forbids these, and whoever sends them loses the connection.
MALFORMED: dict[str, list[Header]] = {
    "a key with a NUL": [(KEY_HEADER, OUR_KEY + b"\0")],
    "a key that contains another header": [(KEY_HEADER, OUR_KEY + b"\r\nx-a: b")],
    "the header in upper case": [(b"X-Routing-Key", OUR_KEY)],
}
TOO_LARGE, NO_HTTP = "http2.header_list_size_too_large", "http2.rx_messaging_error"
_HUGE: Header = (b"x-a", b"a" * 65_536)
_ENVOYS = (("mesh", "homepage-sidecar"), ("gateway-header", "central-envoy"))


def _sends(unit: str, *headers: Header) -> Callable[[Scene], Answer]:
    return lambda scene: scene.ask(unit, *headers)


def _is_decided_anyway(*headers: Header) -> Callable[[Scene], Answer]:
    """A gateway decides by its rules: the key that comes with a request must neither choose nor get through."""

    def attempt(scene: Scene) -> Answer:
        answer = scene.ask("gateway-1", *headers)
        decided = b"cw-ranker" in answer.body and b"search-ranker" not in answer.body
        decided_by_rules = Answer("OK", "the key was not read: answered by cw-ranker.v1, by the rules")
        return decided_by_rules if decided and answer.status == "OK" else answer

    return attempt


def _cases() -> list[Case]:
    cases = []
    for way, unit in _ENVOYS:
        for attack, values in SHAPES.items():
            headers = [(KEY_HEADER, value) for value in values]
            reason = "send exactly one, of the form model.v1"
            cases.append(Case(attack, way, unit, "INVALID_ARGUMENT", reason, _sends(unit, *headers)))
        huge = counted_as(TOO_LARGE, unit, _sends(unit, KEY, _HUGE))
        cases.append(Case("a header of 64 KiB", way, unit, "RESET", TOO_LARGE, huge))
        for attack, malformed in MALFORMED.items():
            no_http = counted_as(NO_HTTP, unit, _sends(unit, *malformed))
            cases.append(Case(attack, way, unit, "CLOSED", NO_HTTP, no_http))
        for attack, key in (("another caller's key", THEIR_KEY), ("an unknown key", b"nobody.v7")):
            reason = rf"routing key '{key.decode()}': no such key for this caller"
            cases.append(Case(attack, way, unit, "UNAVAILABLE", reason, _sends(unit, (KEY_HEADER, key))))
    for attack, values in {**SHAPES, "another caller's key": [THEIR_KEY]}.items():
        if not set(values) - {OUR_KEY}:
            continue  # it would be answered alike, were its key read
        ignored = _is_decided_anyway(*((KEY_HEADER, value) for value in values))
        cases.append(Case(attack, "gateway", "gateway-1", "OK", "answered by cw-ranker.v1, by the rules", ignored))
    huge = _sends("gateway-1", KEY, _HUGE)
    cases.append(Case("a header of 64 KiB", "gateway", "gateway-1", "RESOURCE_EXHAUSTED", "bytes of headers", huge))
    # Whoever routes by himself comes to the model with whatever he likes.
    theirs = _sends(THEIR_MODEL, (KEY_HEADER, THEIR_KEY))
    may_not = r"caller 'homepage' may not use it by the route table; these may: search"
    cases.append(Case("another caller's key", "proxyless", THEIR_MODEL, "PERMISSION_DENIED", may_not, theirs))
    nothing = "is not loaded at replica"
    cases.append(
        Case(
            "another cluster's key",
            "proxyless",
            MODEL,
            "FAILED_PRECONDITION",
            nothing,
            _sends(MODEL, (KEY_HEADER, THEIR_KEY)),
        )
    )
    for attack, key in (("a wildcard", b"*"), ("a padded key", b" cw-ranker.v1 ")):
        sent = _sends(MODEL, (KEY_HEADER, key))
        cases.append(Case(attack, "proxyless", MODEL, "FAILED_PRECONDITION", nothing, sent))
    twice = _sends(MODEL, KEY, (KEY_HEADER, THEIR_KEY))
    cases.append(
        Case("the key, then another caller's", "proxyless", MODEL, "INVALID_ARGUMENT", "send exactly one value", twice)
    )
    huge = _sends(MODEL, KEY, _HUGE)
    cases.append(Case("a header of 64 KiB", "proxyless", MODEL, "RESOURCE_EXHAUSTED", "bytes of headers", huge))
    return cases


KEYS = tuple(_cases())
