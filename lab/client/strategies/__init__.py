"""The strategies that topologies are made of: who decides, and over which channel requests go.

Here belongs what implements :class:`lab.client.strategy.Strategy`. A topology's file puts one together.
"""

from lab.client.strategies.direct import Direct
from lab.client.strategies.gateway import Gateway
from lab.client.strategies.leased import Leased
from lab.client.strategies.unleased import Unleased

__all__ = ["Direct", "Gateway", "Leased", "Unleased"]
