"""``GRPC_XDS_BOOTSTRAP=xds.json python proxyless.py KEY USE_CASE``: asks a model by plain gRPC, which routes by xDS.

Needs grpcio and the messages of models/proto, and nothing else of the lab.
"""

import sys

import grpc

from models.proto.ranking.v1 import ranking_pb2, ranking_pb2_grpc

key, use_case = sys.argv[1:]
request = ranking_pb2.RankRequest(titles=[ranking_pb2.Title(id="t1"), ranking_pb2.Title(id="t2")])
request.envelope.use_case = use_case
request.envelope.context.user_id = "u1"
# No fallback credentials: without TLS settings from the control plane there is no connection, not one in plaintext.
with grpc.secure_channel("xds:///models", grpc.xds_channel_credentials()) as channel:
    ranking = ranking_pb2_grpc.RankingStub(channel)
    try:
        answer = ranking.Rank(request, metadata=(("x-routing-key", key),), timeout=10)
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
print(f"{answer.answered_by.model}.{answer.answered_by.version}", answer.answered_by.replica)  # noqa: T201 (the answer)
