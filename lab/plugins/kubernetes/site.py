"""Names, addresses and paths in a lab of pods.

A plan is made before any pod has an address, so units know each other by the names of Services. A replica advertises
the address that Kubernetes gives its pod. Programs on this machine go through a port of the loopback, which is
forwarded.
"""

from __future__ import annotations

from lab.roles import Port
from lab.runtime.pod_site import USUAL_PORTS, PodSite

POD_IP = "POD_IP"
"""Environment variable of a container: its pod's address."""


def replicas_of(group: str) -> str:
    """The headless Service whose name stands for the addresses of all replicas of a group."""
    return f"{group}-replicas"


class KubernetesSite(PodSite):
    """Every pod has the same port numbers; its Service has the name of the unit, or of the group that it is one of."""

    @property
    def host_address(self) -> str:
        """Empty: forwarded connections arrive over the pod's own loopback."""
        return ""

    def port(self, unit: str, name: str, pod: str = "", number: int = 0, group: str = "") -> Port:
        """Where a unit's port is; ``inside`` is a name."""
        number = number or USUAL_PORTS[name]
        host = "127.0.0.1" if pod else replicas_of(group) if group else unit
        of_pod = f"{pod}:{number}" if pod else ""
        return Port(f"0.0.0.0:{number}", f"{host}:{number}", self.outside(unit, name), enters_pod=True, of_pod=of_pod)

    def advertised(self, port: Port) -> str:
        """The pod's own address, which Kubernetes fills in when it starts the container."""
        return f"$({POD_IP}):{number_of(port)}"


class FileSite(KubernetesSite):
    """The site of manifests that are written as files, for which this machine forwards no port."""

    def outside(self, unit: str, name: str) -> str:
        """The unit's name, in place of a port of this machine."""
        del name
        return f"{unit}:0"


def number_of(port: Port) -> int:
    """The number of a port in its pod."""
    return int(port.bind.rpartition(":")[2])
