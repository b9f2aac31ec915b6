"""The edge admits by tokens alone, limits each user, and says to callers who the user is."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64encode
from typing import Any
from unittest.mock import AsyncMock, Mock

import grpc
import pytest

from lab.errors import InputError, SpecError
from lab.plugins.pages.edge.probes import ATTACKS, try_attacks
from lab.plugins.pages.edge.service import PAGE, Edge
from lab.plugins.pages.edge.tokens import MAX_CHARACTERS, TokenError, User, claims_of, sign, user_of
from lab.roles import plan
from lab.routing.document import read_path
from lab.routing.headers import RETRIES_LEFT
from lab.runtime.compose.__main__ import fixed_site
from lab.spec import SIZES, override, read_spec
from models.proto.caller.v1 import caller_pb2

KEY, NOW_S = b"k" * 32, time.time()
CLAIMS = claims_of("u1", "ads", expires_s=NOW_S + 3_600)


class AbortedError(Exception):
    """What :meth:`grpc.aio.ServicerContext.abort` raises."""


def encoded(document: object) -> str:
    return urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


def headers(token: str) -> list[tuple[str, str | bytes]]:
    return [("authorization", f"Bearer {token}")]


def with_claims(**changes: Any) -> str:
    return sign({**CLAIMS, **changes}, KEY)


def test_a_token_names_user_and_tenant() -> None:
    assert user_of(headers(sign(CLAIMS, KEY)), KEY) == User("u1", "ads")
    assert user_of(headers(with_claims(tenant="")), KEY) == User("u1", "")


GOOD = sign(CLAIMS, KEY)
OTHER_USER = encoded({**CLAIMS, "sub": "u2"})


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ([], "no user token: send one header authorization: Bearer TOKEN"),
        ([("authorization", f"Basic {GOOD}")], "no user token"),
        ([*headers(GOOD), *headers(GOOD)], "no user token"),
        ([("authorization", b"Bearer x")], "no user token"),
        (headers("x" * (MAX_CHARACTERS + 1)), "has 2049 characters; send 2048 at most"),
        (headers("x.y"), "Not enough segments; send one for 'pages', signed by HS256 with this lab's key"),
        (headers("~.~.~"), "Invalid header"),
        (headers(f"{encoded([])}.{encoded({})}."), "Invalid header string"),
        (headers(f"{urlsafe_b64encode(b'[' * 1_500).decode().rstrip('=')}.x."), "user token: "),
        (headers(sign(CLAIMS, KEY, algorithm="none")), "The specified alg value is not allowed"),
        (headers(sign(CLAIMS, 2 * KEY, algorithm="HS512")), "The specified alg value is not allowed"),
        (headers(sign(CLAIMS, b"o" * 32)), "Signature verification failed"),
        (headers(GOOD.replace(GOOD.split(".")[1], OTHER_USER)), "Signature verification failed"),
        (headers(GOOD.rpartition(".")[0] + "."), "Signature verification failed"),
        (headers(with_claims(aud="another")), "Audience doesn't match"),
        (headers(with_claims(aud=["pages", "another"])), "Invalid claim format"),
        (headers(with_claims(exp=NOW_S)), "Signature has expired; send one"),
        (headers(with_claims(exp=float("nan"))), "must be an integer"),
        (headers(with_claims(exp=None)), 'missing the "exp" claim'),
        (headers(with_claims(sub="")), "names no user"),
        (headers(with_claims(sub=7)), "Subject must be a string"),
        (headers(with_claims(tenant=["ads"])), "names no user"),
        (headers(with_claims(sub="u1\nu2")), "contains a control character"),
    ],
)
def test_any_other_token_is_refused_in_one_line(metadata: list[tuple[str, str | bytes]], why: str) -> None:
    with pytest.raises(TokenError) as refused:
        user_of(metadata, KEY)
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.fixture
def edge() -> Edge:
    stubs = {"homepage": Mock(GetPage=AsyncMock(return_value=caller_pb2.Page(retries=3)))}
    return Edge("edge", stubs, key=KEY, user_rps=2, log=Mock())


async def ask(edge: Edge, token: str, *more: tuple[str, str], page: str = "homepage") -> caller_pb2.Page:
    request = caller_pb2.GetPageRequest(page_id="1f3a90c2-0000002c")
    request.context.user_id, request.context.tenant, request.context.device = "forged", "forged", "tv"
    context = Mock(abort=AsyncMock(side_effect=AbortedError), time_remaining=lambda: 0.5)
    context.invocation_metadata = lambda: (*headers(token), (PAGE, page), *more)
    try:
        return await edge.get_page(request, context)
    except AbortedError:
        raise AbortedError(*context.abort.call_args.args) from None


async def test_callers_get_user_and_tenant_of_the_token_and_the_time_that_is_left(edge: Edge) -> None:
    page = await ask(edge, GOOD, (RETRIES_LEFT, "4"), ("x-tenant", "forged"))

    asked = edge._stubs["homepage"].GetPage.call_args
    context = asked.args[0].context
    assert page.retries == 3
    assert (context.user_id, context.tenant, context.device) == ("u1", "ads", "tv")
    assert asked.kwargs == {"timeout": 0.5, "metadata": ((RETRIES_LEFT, "4"),)}


async def test_a_user_without_a_good_token_reaches_no_caller(edge: Edge) -> None:
    with pytest.raises(AbortedError) as refused:
        await ask(edge, with_claims(exp=NOW_S - 1))
    assert refused.value.args[0] == grpc.StatusCode.UNAUTHENTICATED
    assert "Signature has expired" in refused.value.args[1]
    edge._stubs["homepage"].GetPage.assert_not_called()


async def test_each_user_has_a_limit(edge: Edge) -> None:
    for _ in range(2):
        await ask(edge, GOOD)
    with pytest.raises(AbortedError) as refused:
        await ask(edge, GOOD)
    why = "user 'u1': more than 2 pages a second; ask again later"
    assert refused.value.args == (grpc.StatusCode.RESOURCE_EXHAUSTED, why)
    await ask(edge, with_claims(sub="u2"))


async def test_an_unknown_page_is_not_found(edge: Edge) -> None:
    with pytest.raises(AbortedError) as refused:
        await ask(edge, GOOD, page="search")
    assert refused.value.args == (grpc.StatusCode.NOT_FOUND, "x-page: no page 'search'; there are homepage")


async def test_a_driver_sees_what_an_edge_does_not_refuse() -> None:
    answered = AsyncMock(return_value=caller_pb2.Page())
    assert await try_attacks(answered, KEY, ()) == dict.fromkeys(ATTACKS, "OK")
    tried = [dict(each.kwargs["metadata"]) for each in answered.call_args_list]
    assert tried.pop(0) == {}
    for metadata in tried:
        with pytest.raises(TokenError):
            user_of(metadata.items(), KEY)


def laid_out(*roles: str, **settings: float) -> Any:
    spec = override(read_spec(SIZES["pages"]), topologies=["mesh"], security="mtls", roles=roles)
    spec = spec.model_copy(update={"extra_roles": dict.fromkeys(roles, settings)})
    return plan(spec, read_path(spec.routes), fixed_site())


def test_only_a_lab_that_names_it_has_an_edge_and_only_its_callers_take_pages_from_it() -> None:
    without, with_edge = laid_out(), laid_out("edge", user_rps=7)

    assert not without.with_role("edge")
    assert "fronted_by" not in json.loads(without.unit("homepage").files["caller.json"])
    [edge] = with_edge.with_role("edge")
    assert edge.argv[edge.argv.index("--user-rps") + 1] == "7"
    assert json.loads(with_edge.unit("homepage").files["caller.json"])["fronted_by"] == ["edge"]
    key = edge.environment["LAB_USER_TOKEN_KEY"]
    assert key not in json.dumps([edge.argv, dict(edge.files)])
    assert not [unit.name for unit in with_edge.units if unit is not edge and key in f"{unit}"]


@pytest.mark.parametrize(
    ("roles", "settings", "why"),
    [
        (("edgy",), {}, "edgy"),
        (("gateway",), {}, "extra_roles.gateway: is not a role that a lab may have or not; there are edge"),
        (("edge",), {"rps": 1}, "extra_roles.edge.rps: no such setting; there are user_rps"),
        (("edge",), {"user_rps": 0}, "extra_roles.edge.user_rps: 0 is out of range: use 0.01 to 1,000,000"),
    ],
)
def test_a_role_or_a_setting_that_there_is_not_is_one_line(
    roles: tuple[str, ...], settings: dict[str, float], why: str
) -> None:
    with pytest.raises((InputError, SpecError)) as refused:
        laid_out(*roles, **settings)
    assert why in str(refused.value)
