"""A model version's resilience policy as Envoy configuration, and the part of it that gRPC clients support.

Everything that a cluster can express is on the cluster, since routes are static in the bootstrap. The exception is the
timeout per attempt, which a request header carries (``lab.routing.headers``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2, outlier_detection_pb2
from envoy.config.core.v3 import health_check_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from envoy.type.v3 import percent_pb2
from google.protobuf import duration_pb2, wrappers_pb2

if TYPE_CHECKING:
    from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

    from lab.routing.resilience import Breaker, Health, Hedge, Outliers, Policy, Retries

_ALL = 100
# Failures that a caller sees as UNAVAILABLE although no replica answered so.
_UNREACHABLE = ("connect-failure", "refused-stream", "reset")
# A replica may report that an attempt's time is up just before Envoy does.
_TOO_LATE = "deadline-exceeded"
_HEDGED_ON = ("internal", "resource-exhausted", "unavailable")
# How often Envoy picks again to find a replica that the request has not tried; then it accepts any.
_OTHER_HOST_TRIES = 5
_EJECTION_CHECK = duration_pb2.Duration(nanos=200_000_000)
# gRPC ejects by the percentage of failures per interval, not by consecutive failures.
_GRPC_FAILURES_PERCENT = 85
_GRPC_EJECTION_CHECK = duration_pb2.Duration(seconds=1)
# Where Envoy has a slow start.
_SLOW_STARTS = {
    cluster_pb2.Cluster.ROUND_ROBIN: "round_robin_lb_config",
    cluster_pb2.Cluster.LEAST_REQUEST: "least_request_lb_config",
}
# With a pause of 1 ms its retries sometimes never start, and the call waits for its deadline (grpc#41036).
_GRPC_SHORTEST_PAUSE_S = 0.01


def apply(policy: Policy, cluster: cluster_pb2.Cluster, http: http_protocol_options_pb2.HttpProtocolOptions) -> None:
    """Adds a policy to a cluster and its HTTP options."""
    limits = cluster.circuit_breakers.thresholds[0]
    repeated = policy.retries or policy.hedge
    if repeated is not None:
        limits.retry_budget.CopyFrom(_budget(repeated))
    if policy.retries is not None:
        http.retry_policy.CopyFrom(_retry_policy(policy.retries))
    if policy.hedge is not None:
        http.retry_policy.CopyFrom(_hedging())
    if policy.breaker is not None:
        _bound(policy.breaker, limits)
    if policy.outliers is not None:
        cluster.outlier_detection.CopyFrom(_outlier_detection(policy.outliers))
    if policy.health is not None:
        cluster.health_checks.append(_health_check(policy.health))
        # A deregistered replica must go at once, even if its health checks still pass.
        cluster.ignore_health_on_host_removal = True
    if policy.outliers is not None or policy.health is not None:
        # Below the panic threshold Envoy would send to all replicas, unhealthy ones included.
        cluster.common_lb_config.healthy_panic_threshold.CopyFrom(percent_pb2.Percent(value=0))
    if policy.slow_start_s and (its := _SLOW_STARTS.get(cluster.lb_policy)):
        getattr(cluster, its).slow_start_config.slow_start_window.CopyFrom(_duration(policy.slow_start_s))


def unconnected_elsewhere() -> route_components_pb2.RetryPolicy:
    """Where a table asks for no retry: tries another replica if the first could not be connected to, and got nothing.

    Without a control plane, an Envoy does not learn that a replica is gone. Gateways and gRPC clients connect first,
    and then pick a replica.
    """
    return route_components_pb2.RetryPolicy(
        retry_on="connect-failure",
        num_retries=wrappers_pb2.UInt32Value(value=2),
        retry_back_off=_back_off(0.001),
        retry_host_predicate=[_elsewhere()],
        host_selection_retry_max_attempts=_OTHER_HOST_TRIES,
    )


def grpc_retry_policy(policy: Policy) -> route_components_pb2.RetryPolicy | None:
    """The retry policy of a gRPC client's route; gRPC supports neither budget nor timeout per attempt."""
    retries = policy.retries
    if retries is None:
        return None
    return route_components_pb2.RetryPolicy(
        retry_on=",".join(retries.on),
        num_retries=wrappers_pb2.UInt32Value(value=retries.attempts - 1),
        retry_back_off=_back_off(max(retries.backoff_s, _GRPC_SHORTEST_PAUSE_S)),
    )


def _retry_policy(retries: Retries) -> route_components_pb2.RetryPolicy:
    on = (*retries.on, *(_UNREACHABLE if "unavailable" in retries.on else ()))
    if retries.per_try_s:
        on = (*on, _TOO_LATE)
    return route_components_pb2.RetryPolicy(
        retry_on=",".join(on),
        num_retries=wrappers_pb2.UInt32Value(value=retries.attempts - 1),
        retry_back_off=_back_off(retries.backoff_s),
        retry_host_predicate=[_elsewhere()],
        host_selection_retry_max_attempts=_OTHER_HOST_TRIES,
    )


def _hedging() -> route_components_pb2.RetryPolicy:
    """One more attempt at most, when the first failed or is slow."""
    return route_components_pb2.RetryPolicy(
        retry_on=",".join((*_HEDGED_ON, *_UNREACHABLE)),
        num_retries=wrappers_pb2.UInt32Value(value=1),
        retry_back_off=_back_off(0.001),
        retry_host_predicate=[_elsewhere()],
        host_selection_retry_max_attempts=_OTHER_HOST_TRIES,
    )


def _elsewhere() -> route_components_pb2.RetryPolicy.RetryHostPredicate:
    """Prefers a replica that the request has not tried."""
    predicate = route_components_pb2.RetryPolicy.RetryHostPredicate(name="envoy.retry_host_predicates.previous_hosts")
    predicate.typed_config.Pack(previous_hosts_pb2.PreviousHostsPredicate())
    return predicate


def _back_off(base_s: float) -> route_components_pb2.RetryPolicy.RetryBackOff:
    return route_components_pb2.RetryPolicy.RetryBackOff(
        base_interval=_duration(base_s), max_interval=_duration(base_s * 8)
    )


def _budget(repeated: Retries | Hedge) -> circuit_breaker_pb2.CircuitBreakers.Thresholds.RetryBudget:
    """Converts the budget: Envoy's is a share of all active requests including retries, ours of first attempts."""
    share = _ALL * repeated.budget / (_ALL + repeated.budget)
    return circuit_breaker_pb2.CircuitBreakers.Thresholds.RetryBudget(
        budget_percent=percent_pb2.Percent(value=share),
        min_retry_concurrency=wrappers_pb2.UInt32Value(value=repeated.at_least),
    )


def _bound(breaker: Breaker, limits: circuit_breaker_pb2.CircuitBreakers.Thresholds) -> None:
    if breaker.requests:
        limits.max_requests.value = breaker.requests
    if breaker.connections:
        limits.max_connections.value = breaker.connections
    if breaker.pending:
        limits.max_pending_requests.value = breaker.pending


def _outlier_detection(outliers: Outliers) -> outlier_detection_pb2.OutlierDetection:
    """Envoy's outlier detection: it ejects by consecutive failures, gRPC by percentage, each by its own fields."""
    never, always = wrappers_pb2.UInt32Value(value=0), wrappers_pb2.UInt32Value(value=_ALL)
    eject = _duration(outliers.eject_s)
    return outlier_detection_pb2.OutlierDetection(
        consecutive_5xx=wrappers_pb2.UInt32Value(value=outliers.errors),
        enforcing_consecutive_5xx=always,
        enforcing_consecutive_gateway_failure=never,
        enforcing_success_rate=never,
        enforcing_failure_percentage=never,
        interval=_EJECTION_CHECK,
        base_ejection_time=eject,
        # A constant ejection time.
        max_ejection_time=eject,
        max_ejection_percent=wrappers_pb2.UInt32Value(value=outliers.at_most),
    )


def grpc_outlier_detection(outliers: Outliers) -> outlier_detection_pb2.OutlierDetection:
    """The part of ``outliers`` that gRPC supports: by percentage of failures, per second with enough requests."""
    number = wrappers_pb2.UInt32Value
    eject = _duration(outliers.eject_s)
    return outlier_detection_pb2.OutlierDetection(
        enforcing_success_rate=number(value=0),
        enforcing_failure_percentage=number(value=_ALL),
        failure_percentage_threshold=number(value=_GRPC_FAILURES_PERCENT),
        failure_percentage_minimum_hosts=number(value=1),
        failure_percentage_request_volume=number(value=outliers.errors),
        interval=_GRPC_EJECTION_CHECK,
        base_ejection_time=eject,
        max_ejection_time=eject,
        max_ejection_percent=number(value=outliers.at_most),
    )


def _health_check(health: Health) -> health_check_pb2.HealthCheck:
    every = _duration(health.every_s)
    return health_check_pb2.HealthCheck(
        timeout=every,
        interval=every,
        # Without traffic, Envoy's default interval is one minute.
        no_traffic_interval=every,
        no_traffic_healthy_interval=every,
        unhealthy_threshold=wrappers_pb2.UInt32Value(value=health.unhealthy),
        healthy_threshold=wrappers_pb2.UInt32Value(value=1),
        grpc_health_check=health_check_pb2.HealthCheck.GrpcHealthCheck(),
    )


def _duration(seconds: float) -> duration_pb2.Duration:
    message = duration_pb2.Duration()
    message.FromNanoseconds(round(seconds * 1e9))
    return message
