"""Users without a good token of their own, and callers that go past the edge."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

import grpc

from lab.plugins.pages.edge.role import KEY_VARIABLE
from lab.plugins.pages.edge.service import PAGE
from lab.plugins.pages.edge.tokens import HEADER, SCHEME, claims_of, sign
from lab.runtime.state import LabState
from lab.transport import open_blocking_channel
from models.proto.caller.v1 import caller_pb2, caller_pb2_grpc
from tests.negative.scene import Case, Scene
from tests.negative.wire import Answer

_S = 10.0
_TENANT = "kids"
_PROVED_TENANT = "the model saw the token's tenant"


def asked(scene: Scene, token: str, unit: str = "edge", times: int = 1) -> Answer:
    """The answer to a user who names another tenant beside a token, which may be empty; the last one of several."""
    metadata = ((PAGE, "homepage"), *(((HEADER, f"{SCHEME}{token}"),) if token else ()))
    request = caller_pb2.GetPageRequest(topology="mesh")
    request.context.user_id, request.context.tenant = "u1", "ads"
    with open_blocking_channel(scene.units[unit], scene.security("homepage")) as channel:
        try:
            for _ in range(times):
                page = caller_pb2_grpc.PagesStub(channel).GetPage(request, timeout=_S, metadata=metadata)
        except grpc.RpcError as error:
            return Answer(error.code().name, error.details() or "")
    saw = {each.answered_by.tenant for each in page.sections if not each.error}
    return Answer("OK", _PROVED_TENANT if saw == {_TENANT} else f"models saw {', '.join(sorted(saw))}")


def good_token(scene: Scene, *, unsigned: bool = False, of_lab: bool = True, **changes: Any) -> str:
    """A token of a new user, with some claims changed."""
    key = bytes.fromhex(LabState.of(scene.lab.folder).plan.unit("edge").environment[KEY_VARIABLE])
    claims = {**claims_of(f"u-{secrets.token_hex(4)}", _TENANT, expires_s=time.time() + 60), **changes}
    return sign(claims, key if of_lab else secrets.token_bytes(32), algorithm="none" if unsigned else "HS256")


def _tries(**changes: Any) -> Callable[[Scene], Answer]:
    return lambda scene: asked(scene, good_token(scene, **changes))


_UNPROVED = "UNAUTHENTICATED"

EDGE = (
    Case("no user token", "pages", "edge", _UNPROVED, "no user token: send one header", lambda it: asked(it, "")),
    Case(
        "a user token without a signature",
        "pages",
        "edge",
        _UNPROVED,
        "alg value is not allowed",
        _tries(unsigned=True),
    ),
    Case(
        "a user token by another key", "pages", "edge", _UNPROVED, "verification failed; send one", _tries(of_lab=False)
    ),
    Case("a user token that has expired", "pages", "edge", _UNPROVED, "Signature has expired; send one", _tries(exp=1)),
    Case("a user token for another audience", "pages", "edge", _UNPROVED, "Audience doesn't match", _tries(aud="bank")),
    Case(
        "more pages of one user than its limit",
        "pages",
        "edge",
        "RESOURCE_EXHAUSTED",
        "more than 1 pages a second",
        lambda scene: asked(scene, good_token(scene, sub="eager"), times=50),
    ),
    Case("another tenant beside the token's", "pages", "edge", "OK", _PROVED_TENANT, _tries()),
    Case(
        "a page past the edge",
        "pages",
        "homepage",
        "PERMISSION_DENIED",
        "users ask for the page of homepage through edge",
        lambda scene: asked(scene, "", "homepage"),
    ),
)
