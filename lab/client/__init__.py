"""What a caller imports to reach a model by the name of a use case: one client for each strategy, behind one interface.

Here belongs how a request gets from a caller onto the wire. What decides where it goes lives in ``lab.routing``.
"""

from lab.client.attempts import Passage
from lab.client.base import Answer, BeforeSend, Client, DefaultAnswer
from lab.client.endpoints import DirectTarget, Endpoints

__all__ = [
    "Answer",
    "BeforeSend",
    "Client",
    "DefaultAnswer",
    "DirectTarget",
    "Endpoints",
    "Passage",
]
