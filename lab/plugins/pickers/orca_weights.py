"""Client-side weighted round robin (gRFC A58), by the load that replicas report with each response (ORCA)."""

from __future__ import annotations

from lab.pickers import ENVOY, GATEWAY, GRPC, GRPC_XDS, THIRD_PARTY, Cannot, Picker

_NAME = "client_side_weighted_round_robin"
_TYPE = f"type.googleapis.com/envoy.extensions.load_balancing_policies.{_NAME}.v3.ClientSideWeightedRoundRobin"
# A new replica's reports count after 1 s, in place of gRPC's 10 s.
_BLACKOUT, _UPDATE = "1s", "0.500s"
_TYPED = {"@type": _TYPE, "blackout_period": _BLACKOUT, "weight_update_period": _UPDATE}
_POLICY = {"typed_extension_config": {"name": f"envoy.load_balancing_policies.{_NAME}", "typed_config": _TYPED}}
_WEIGHTED = {"load_balancing_policy": {"policies": [_POLICY]}}
_NO_REPORTS = Cannot("it reads no load reports of gRPC")

PICKER = Picker(
    name="orca-weights",
    line="turns with weights from the load that replicas report: those that serve requests sooner get more",
    places={
        GATEWAY: Cannot("the lab's gateway reads no load reports of gRPC; queue-depth goes by its own signal"),
        ENVOY: _WEIGHTED,
        GRPC: {"weighted_round_robin": {"blackoutPeriod": _BLACKOUT, "weightUpdatePeriod": _UPDATE}},
        GRPC_XDS: _WEIGHTED,
        **dict.fromkeys(THIRD_PARTY, _NO_REPORTS),
    },
    skewed=True,
    reports_load=True,
)
