"""The addresses of a caller, from its own pod and from another one."""

from lab.client import Endpoints


def test_only_the_loopback_of_a_pod_has_another_name_elsewhere() -> None:
    here = Endpoints({"sidecar": ("127.0.0.1:9002",), "gateway": ("10.0.0.7:9000", "gateway-replicas:9000")})

    elsewhere = here.from_another_pod("10.0.0.3")

    assert elsewhere.by_role == {
        "sidecar": ("10.0.0.3:9002",),
        "gateway": ("10.0.0.7:9000", "gateway-replicas:9000"),
    }
