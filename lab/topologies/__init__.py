"""The topologies, one file each: the rest of the lab derives from a frozen :class:`Topology`.

Here belongs what differs between the paths from caller to model. To add a topology, add a file here, name its module by
an entry point of the group ``routing_lab.topologies``, or give the file to ``--plugin``.
"""

from lab.topologies._by_header import by_header
from lab.topologies._registry import TOPOLOGIES, compared_as, open_client
from lab.topologies._topology import YES, Capabilities, Support, Topology, no, yes

__all__ = [
    "TOPOLOGIES",
    "YES",
    "Capabilities",
    "Support",
    "Topology",
    "by_header",
    "compared_as",
    "no",
    "open_client",
    "yes",
]
