"""What a caller imports to reach a model by the name of a use case: one client, and a strategy for each topology.

Here belongs how a request leaves a caller. What decides where it goes lives in ``lab.routing``. Two modules are not for
callers but for commands, notebooks and tests: ``call`` is a blocking client of a caller service, ``admin`` of the
control plane.
"""

from lab.client.client import Answer, BeforeSend, Client, DefaultAnswer
from lab.client.endpoints import DirectTarget, Endpoints
from lab.client.resolver import ResolverClient
from lab.client.rpc_channel import RpcChannel
from lab.client.strategies import Strategy, StrategyFactory

__all__ = [
    "Answer",
    "BeforeSend",
    "Client",
    "DefaultAnswer",
    "DirectTarget",
    "Endpoints",
    "ResolverClient",
    "RpcChannel",
    "Strategy",
    "StrategyFactory",
]
