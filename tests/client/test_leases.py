from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lab.client.leases import Leases, lease_key
from lab.client.resolver import ResolvedDecision
from lab.routing.attempts import Target

TV, PHONE = {"device": "tv", "user_id": "u1"}, {"device": "phone", "user_id": "u1"}


def decision(revision: int = 1, key: str = "cw-ranker.v1", reads: tuple[str, ...] = ("device",)) -> ResolvedDecision:
    return ResolvedDecision(
        targets=(Target(routing_key=key),), revision=revision, timeout_s=1, reads=reads, ttl_s=30, max_stale_s=300
    )


def found(leases: Leases, use_case: str, context: dict[str, str]) -> ResolvedDecision | None:
    lease = leases.find(leases.key(use_case, context))
    return None if lease is None else lease.decision


def test_a_lease_holds_for_every_request_that_agrees_in_what_the_rules_read() -> None:
    leases, given_decision = Leases(), decision()
    assert leases.key("CW", TV) is None

    leases.grant("CW", TV, given_decision, now=0)

    assert given_decision is found(leases, "CW", {"device": "tv", "user_id": "someone else", "country": "DE"})
    assert found(leases, "CW", PHONE) is None
    assert found(leases, "Search", TV) is None


def test_a_field_that_a_request_lacks_is_like_an_empty_one() -> None:
    leases = Leases()
    leases.grant("CW", {}, decision(), now=0)
    assert found(leases, "CW", {"device": ""}) is not None


def test_a_lease_has_the_times_until_it_is_fresh_and_usable() -> None:
    leases = Leases()
    leases.grant("CW", TV, decision(), now=100)
    lease = leases.find(leases.key("CW", TV))
    assert lease is not None
    assert (lease.fresh_until, lease.usable_until) == (130, 400)


def test_a_newer_revision_ends_every_lease() -> None:
    leases = Leases()
    leases.grant("CW", TV, decision(), now=0)
    leases.advance(2)
    assert (len(leases), leases.revision) == (0, 2)
    leases.advance(1)
    assert leases.revision == 2


def test_an_outdated_decision_is_not_kept() -> None:
    leases = Leases()
    leases.advance(2)
    assert not leases.grant("CW", TV, decision(revision=1), now=0)
    assert found(leases, "CW", TV) is None


def test_a_decision_of_a_newer_revision_ends_earlier_leases() -> None:
    leases = Leases()
    leases.grant("CW", PHONE, decision(revision=1), now=0)
    leases.grant("CW", TV, decision(revision=2), now=0)
    assert found(leases, "CW", PHONE) is None
    assert found(leases, "CW", TV) is not None


def test_a_reconnected_resolver_is_followed_even_to_an_older_revision() -> None:
    leases = Leases()
    leases.grant("CW", TV, decision(revision=9), now=0)
    leases.follow(2)
    assert (len(leases), leases.revision) == (0, 2)
    assert leases.grant("CW", TV, decision(revision=2), now=0)


def test_rules_that_read_something_else_end_the_leases_of_their_use_case() -> None:
    leases = Leases()
    leases.grant("CW", TV, decision(), now=0)
    leases.grant("Search", TV, decision(), now=0)
    leases.grant("CW", TV, decision(reads=("device", "user_id")), now=0)
    assert sorted(leases._leases) == [("CW", "tv", "u1"), ("Search", "tv")]


def test_beyond_the_capacity_the_least_recently_used_lease_goes() -> None:
    leases = Leases(capacity=2)
    for user in ("u1", "u2"):
        leases.grant("CW", {"user_id": user}, decision(reads=("user_id",)), now=0)
    assert found(leases, "CW", {"user_id": "u1"})
    leases.grant("CW", {"user_id": "u3"}, decision(reads=("user_id",)), now=0)
    assert [bool(found(leases, "CW", {"user_id": user})) for user in ("u1", "u2", "u3")] == [True, False, True]


def test_one_lease_can_be_dropped() -> None:
    leases = Leases()
    leases.drop(None)
    leases.grant("CW", TV, decision(), now=0)
    leases.drop(leases.key("CW", TV))
    assert found(leases, "CW", TV) is None


steps = st.one_of(
    st.tuples(st.just("grant"), st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(1, 6)),
    st.tuples(st.just("advance"), st.integers(1, 6)),
    st.tuples(st.just("follow"), st.integers(1, 6)),
)


@given(st.lists(steps, max_size=40))
def test_all_leases_always_have_the_same_revision(script: list[tuple[Any, ...]]) -> None:
    leases = Leases(capacity=4)
    for what, *arguments in script:
        if what == "grant":
            use_case, device, revision = arguments
            leases.grant(use_case, {"device": device}, decision(revision=revision), now=0)
        else:
            getattr(leases, what)(arguments[0])
        assert {lease.decision.revision for lease in leases._leases.values()} <= {leases.revision}
        assert len(leases) <= 4


@given(st.dictionaries(st.sampled_from(["device", "country", "user_id"]), st.text(max_size=3)))
def test_requests_share_a_key_exactly_if_they_agree_in_the_fields_read(context: dict[str, str]) -> None:
    other = {**context, "country": "XX"}
    assert lease_key("CW", ("device", "user_id"), context) == lease_key("CW", ("device", "user_id"), other)
    assert lease_key("CW", ("device",), context) != lease_key("CW", ("device",), {**context, "device": "long-value"})
