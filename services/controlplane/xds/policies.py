"""What a model version's policy is to Envoy, and what of it to a gRPC client that routes by itself.

Whatever Envoy lets a cluster say, the cluster says: routes are static, in the bootstrap. How long one attempt may take,
it takes from the request alone (``lab.routing.headers``).
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
# What a caller sees as UNAVAILABLE though no replica has said so.
_UNREACHABLE = ("connect-failure", "refused-stream", "reset")
# Of an attempt that has used up its time a replica may say so itself, just before Envoy gives it up.
_TOO_LATE = "deadline-exceeded"
_HEDGED_ON = ("internal", "resource-exhausted", "unavailable")
# A replica is looked for so often that the request has not been at; then any will do.
_OTHER_HOST_TRIES = 5
_EJECTION_CHECK = duration_pb2.Duration(nanos=200_000_000)
# gRPC counts shares of requests, not failures in a row: so many in a hundred, within so long.
_GRPC_FAILURES_PERCENT = 85
_GRPC_EJECTION_CHECK = duration_pb2.Duration(seconds=1)
# With a pause of a millisecond its retries sometimes never begin, and the call waits for its deadline (grpc#41036).
_GRPC_SHORTEST_PAUSE_S = 0.01


def apply(policy: Policy, cluster: cluster_pb2.Cluster, http: http_protocol_options_pb2.HttpProtocolOptions) -> None:
    """Adds to a cluster, and to its options of HTTP, what the policy says."""
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
        # One that has deregistered is not kept for as long as it says that it serves.
        cluster.ignore_health_on_host_removal = True
    if policy.outliers is not None or policy.health is not None:
        # With too few healthy ones left Envoy would send to all, the ill ones included.
        cluster.common_lb_config.healthy_panic_threshold.CopyFrom(percent_pb2.Percent(value=0))
    if policy.slow_start_s:
        cluster.round_robin_lb_config.slow_start_config.slow_start_window.CopyFrom(_duration(policy.slow_start_s))


def grpc_retry_policy(policy: Policy) -> route_components_pb2.RetryPolicy | None:
    """What a gRPC client's route says of retries: it knows neither budget nor time per attempt."""
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
    """A second attempt at most, when the first has failed or is slow."""
    return route_components_pb2.RetryPolicy(
        retry_on=",".join((*_HEDGED_ON, *_UNREACHABLE)),
        num_retries=wrappers_pb2.UInt32Value(value=1),
        retry_back_off=_back_off(0.001),
        retry_host_predicate=[_elsewhere()],
        host_selection_retry_max_attempts=_OTHER_HOST_TRIES,
    )


def _elsewhere() -> route_components_pb2.RetryPolicy.RetryHostPredicate:
    """Another replica than the attempts before."""
    predicate = route_components_pb2.RetryPolicy.RetryHostPredicate(name="envoy.retry_host_predicates.previous_hosts")
    predicate.typed_config.Pack(previous_hosts_pb2.PreviousHostsPredicate())
    return predicate


def _back_off(base_s: float) -> route_components_pb2.RetryPolicy.RetryBackOff:
    return route_components_pb2.RetryPolicy.RetryBackOff(
        base_interval=_duration(base_s), max_interval=_duration(base_s * 8)
    )


def _budget(repeated: Retries | Hedge) -> circuit_breaker_pb2.CircuitBreakers.Thresholds.RetryBudget:
    """Envoy counts attempts again among those under way, the budget counts them beside the first ones."""
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
    """Envoy ejects by failures in a row, gRPC by the share of failures: each reads its own fields."""
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
        # Not longer each time.
        max_ejection_time=eject,
        max_ejection_percent=wrappers_pb2.UInt32Value(value=outliers.at_most),
    )


def grpc_outlier_detection(outliers: Outliers) -> outlier_detection_pb2.OutlierDetection:
    """Of ``outliers`` what gRPC can: by the share of requests that fail, in each second that has enough of them."""
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
        # Before any traffic Envoy would ask but once a minute.
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
