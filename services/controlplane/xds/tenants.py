"""Tenants' rate limits in an Envoy that all callers share: a local rate limit on the account that the key filter picks.

Concurrency limits are not supported here: the filter does not count requests in flight.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envoy.config.core.v3 import base_pb2, extension_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.common.ratelimit.v3 import ratelimit_pb2
from envoy.extensions.filters.http.local_ratelimit.v3 import local_rate_limit_pb2
from envoy.type.metadata.v3 import metadata_pb2
from envoy.type.v3 import percent_pb2, token_bucket_pb2
from google.protobuf import duration_pb2, wrappers_pb2

from lab.routing.limits import DEFAULT, MOST_UNNAMED, Limit, limits_of
from services.controlplane.xds.key_guard import ACCOUNT, CLAIMED, CLAIMS, METADATA
from services.controlplane.xds.resources import Resource, packed, resource

NAME = "tenants"
"""Name of the filter, and so of the resource that its Envoy subscribes to."""


def tenant_limits(tenants: Mapping[str, Mapping[str, Any]]) -> Resource:
    """The filter's configuration for the table's section; without a rate in it, everything passes."""
    rates = {
        "" if tenant == DEFAULT else tenant: limit
        for tenant, limit in limits_of(tenants).items()
        if limit.rate is not None
    }
    claimable = {tenant: limit for tenant, limit in rates.items() if tenant and not limit.callers}
    always = base_pb2.RuntimeFractionalPercent(
        default_value=percent_pb2.FractionalPercent(numerator=100, denominator=percent_pb2.FractionalPercent.HUNDRED)
    )
    message = local_rate_limit_pb2.LocalRateLimit(
        stat_prefix=NAME,
        filter_enabled=always,
        filter_enforced=always,
        rate_limited_as_resource_exhausted=True,
        # Named tenants first: of several matching descriptors, the one with a value wins.
        descriptors=[
            *(_descriptor(limit, {ACCOUNT: tenant}) for tenant, limit in rates.items()),
            *(_descriptor(limit, {CLAIMED: tenant, CLAIMS: ""}) for tenant, limit in claimable.items()),
        ],
        max_dynamic_descriptors=wrappers_pb2.UInt32Value(value=MOST_UNNAMED),
        rate_limits=[_said(ACCOUNT), _said(CLAIMED, CLAIMS)],
    )
    return resource(NAME, extension_pb2.TypedExtensionConfig(name=NAME, typed_config=packed(message)))


def _said(*names: str) -> route_components_pb2.RateLimit:
    """A rate limit entry with the request's metadata under these names, if all are present."""
    action = route_components_pb2.RateLimit.Action
    return route_components_pb2.RateLimit(
        actions=[
            action(
                metadata=action.MetaData(
                    descriptor_key=name,
                    metadata_key=metadata_pb2.MetadataKey(
                        key=METADATA, path=[metadata_pb2.MetadataKey.PathSegment(key=name)]
                    ),
                    source=action.MetaData.DYNAMIC,
                )
            )
            for name in names
        ]
    )


def _descriptor(limit: Limit, entries: Mapping[str, str]) -> ratelimit_pb2.LocalRateLimitDescriptor:
    assert limit.rate is not None  # noqa: S101 (the caller has checked)
    # Whole tokens, for an interval of one second or more.
    tokens = max(1, round(limit.rate))
    interval = duration_pb2.Duration()
    interval.FromNanoseconds(round(tokens / limit.rate * 1e9))
    # An entry without a value matches any value, with a bucket each.
    return ratelimit_pb2.LocalRateLimitDescriptor(
        entries=[ratelimit_pb2.RateLimitDescriptor.Entry(key=key, value=value) for key, value in entries.items()],
        token_bucket=token_bucket_pb2.TokenBucket(
            max_tokens=limit.burst, tokens_per_fill=wrappers_pb2.UInt32Value(value=tokens), fill_interval=interval
        ),
    )
