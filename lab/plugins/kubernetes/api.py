"""Calls of Kubernetes' API about one lab, by the client ``lightkube``."""

from __future__ import annotations

import io
import ssl
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

import httpx2
from httpx2.websockets import HTTPXWSException, WebSocketUpgradeError
from lightkube import Client, codecs
from lightkube.config.client_adapter import Client as adapted  # noqa: N813 (a function of that name)
from lightkube.config.client_adapter import ConnectionParams
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.core.decoders import decode_list, decode_status
from lightkube.core.exceptions import ApiError, ConfigError
from lightkube.resources.apps_v1 import Deployment, StatefulSet
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import (
    ConfigMap,
    Namespace,
    Node,
    PersistentVolumeClaim,
    Pod,
    Secret,
    Service,
    ServiceAccount,
)
from lightkube.resources.networking_v1 import NetworkPolicy
from lightkube.resources.policy_v1 import PodDisruptionBudget
from lightkube.resources.rbac_authorization_v1 import Role, RoleBinding
from lightkube.types import CascadeType, PatchType

from lab.errors import UnitError
from lab.plugins.kubernetes.load_job import INDEX, JOB_NAME
from lab.plugins.kubernetes.naming import INSTANCE, MANAGED_BY, POD, Manifest

if TYPE_CHECKING:
    from lightkube.models.meta_v1 import ObjectMeta

MANAGER = "lab"
"""Field manager of server-side apply."""
NOT_FOUND, FORBIDDEN = 404, 403
PASSING_ERRORS = (ApiError, httpx2.HTTPError, HTTPXWSException)
"""Errors of a call about a container that may just have ended."""
_DELETED: tuple[type[Any], ...] = (
    Job,
    Deployment,
    StatefulSet,
    Pod,
    PersistentVolumeClaim,
    Service,
    PodDisruptionBudget,
    NetworkPolicy,
    ConfigMap,
    RoleBinding,
    Role,
    ServiceAccount,
)
"""Kinds of objects that a lab may leave, in the order in which they are deleted; Secrets first, by name."""
_OF_ADMINISTRATORS = ("Role", "RoleBinding")
"""Kinds that the lab's own role may neither write nor list: where it is in use, they are there."""

# msgspec 0.22 crashes where two threads decode the first object of a kind at the same time.
_READ: tuple[type[Any], ...] = (*_DELETED, Secret, Namespace, Node)
for _kind in _READ:
    decode_list(b'{"items": []}', _kind)
decode_status(b"{}")


@contextmanager
def errors_in_one_line(what: str) -> Iterator[None]:
    """Raises errors of the API, of the network and of the kubeconfig as :class:`UnitError`."""
    try:
        yield
    except ApiError as error:
        raise UnitError(f"{what}: Kubernetes: {_one_line(error)}") from error
    except WebSocketUpgradeError as error:
        answer = error.response
        gone = ": its pod is gone" if answer.status_code == NOT_FOUND else ""
        raise UnitError(f"{what}: Kubernetes: {answer.status_code} {answer.reason_phrase}{gone}") from error
    except (httpx2.HTTPError, HTTPXWSException, OSError) as error:
        raise UnitError(f"{what}: Kubernetes does not answer: {_one_line(error)}") from error
    except ConfigError as error:
        raise UnitError(f"{what}: kubeconfig: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def configuration(context: str) -> SingleConfig:
    """The cluster and credentials of a kubeconfig's context, the current one if empty.

    Raises:
        UnitError: there is none.
    """
    with errors_in_one_line("context"):
        found: SingleConfig | None = KubeConfig.from_env().get(context or None)
    if found is None:
        raise UnitError("context: no kubeconfig: set KUBECONFIG, or name a context by --context")
    return found


class Api:
    """One lab's objects in one namespace.

    Args:
        context: of the kubeconfig.
        namespace: of the lab.
        lab: name of the lab, by whose label its objects are found.
    """

    def __init__(self, context: str, namespace: str, lab: str) -> None:
        self._context, self.namespace, self._lab = context, namespace, lab

    @cached_property
    def client(self) -> Client:
        """A client, connected at the first use."""
        config = configuration(self._context)
        try:
            made = Client(config=config, namespace=self.namespace, field_manager=MANAGER)
        except (ConfigError, OSError, ssl.SSLError) as error:
            raise UnitError(f"kubeconfig: {_one_line(error)}") from error
        weakref.finalize(self, made.close)
        return made

    @property
    def _mine(self) -> dict[str, Any]:
        return {INSTANCE: self._lab, MANAGED_BY: MANAGER}

    def apply(self, manifests: Sequence[Manifest]) -> None:
        """Creates or changes objects by server-side apply; its own role only where it may."""
        for each in manifests:
            try:
                self.client.apply(codecs.from_dict(each), force=True)
            except ApiError as error:
                if error.status.code != FORBIDDEN or each["kind"] not in _OF_ADMINISTRATORS:
                    raise

    def provide_namespace(self, manifest: Manifest) -> None:
        """Makes the namespace unless it is there; another's stays as it is."""
        try:
            self.client.get(Namespace, self.namespace)
        except ApiError as error:
            if error.status.code not in (NOT_FOUND, FORBIDDEN):
                raise
            if error.status.code == NOT_FOUND:
                self.client.apply(codecs.from_dict(manifest), force=True)

    def pods(self) -> dict[str, Pod]:
        """The plan's name of each pod → the pod; of a pod that replaces another one, the newer."""
        found = self.client.list(Pod, labels=self._mine)
        with_name = [(each.metadata.labels or {}, each) for each in found if each.metadata is not None]
        ordered = sorted(with_name, key=lambda pair: (_is_going(pair[1]) is False, _born(pair[1])))
        return {labels[POD]: each for labels, each in ordered if POD in labels}

    def controllers(self) -> set[str]:
        """Names of the pods that the cluster runs, or is about to."""
        deployments = self.client.list(Deployment, labels=self._mine)
        found: list[Any] = [*deployments, *self.client.list(StatefulSet, labels=self._mine)]
        return {str(each.metadata.name) for each in found if each.metadata is not None}

    def pods_of_job(self, name: str) -> list[Pod]:
        """The pods of an indexed Job, in the order of their parts."""
        found = self.client.list(Pod, labels={**self._mine, JOB_NAME: name})
        return sorted(found, key=lambda each: int(_annotations(each)[INDEX]))

    def log(self, pod: str, container: str) -> str:
        """What a container has printed; empty if it has not started."""
        try:
            return "".join(self.client.log(pod, container=container))
        except ApiError:
            return ""

    def require_log(self, pod: str, container: str) -> None:
        """Reads the last line that a container has printed; raises if the API server cannot."""
        for _ in self.client.log(pod, container=container, tail_lines=1):
            pass

    def execute(
        self,
        pod: str,
        container: str,
        command: Sequence[str],
        stdin: IO[bytes] | None = None,
        out: IO[bytes] | io.RawIOBase | None = None,
        errors: IO[bytes] | None = None,
    ) -> tuple[int, bytes]:
        """Runs a command in a container; returns its exit status and, without ``out``, what it printed."""
        kept = io.BytesIO()
        answer = self.client.exec(
            pod,
            container=container,
            command=list(command),
            stdin=cast("BinaryIO | None", stdin),
            stdout=cast("BinaryIO", kept if out is None else out),
            stderr=cast("BinaryIO", io.BytesIO() if errors is None else errors),
            decode=None,
        )
        return int(answer.exit_code), kept.getvalue()

    def delete_workload(self, name: str) -> None:
        """Deletes what belongs to one pod of the plan."""
        for kind in (Deployment, StatefulSet):
            self._delete(kind, name)

    def delete(self, manifests: Sequence[Manifest]) -> None:
        """Deletes objects, those that are there."""
        for each in manifests:
            self._delete(type(codecs.from_dict(each)), each["metadata"]["name"])

    def cordon(self, node: str, *, closed: bool = True) -> None:
        """Keeps new pods from a node, or lets them there again."""
        self.client.patch(Node, node, {"spec": {"unschedulable": closed}}, patch_type=PatchType.MERGE)

    def pods_on(self, node: str) -> list[Pod]:
        """The lab's pods on a node."""
        found = self.client.list(Pod, labels=self._mine)
        return [each for each in found if each.spec is not None and each.spec.nodeName == node]

    def kill(self, pods: Iterable[Pod]) -> None:
        """Deletes pods without grace."""
        for each in pods:
            if each.metadata is not None and each.metadata.name:
                self._delete(Pod, each.metadata.name, grace_period=0)

    def delete_all(self, secrets: Iterable[str]) -> bool:
        """Asks for the deletion of the lab; returns whether nothing is left of it.

        Args:
            secrets: names of its Secrets, which need not be there: they are deleted without being read.
        """
        try:
            there = self.client.get(Namespace, self.namespace)
        except ApiError as error:
            if error.status.code == NOT_FOUND:
                return True
            if error.status.code != FORBIDDEN:
                raise
            there = None
        labels = _labels(there) if there is not None else {}
        if self._mine.items() <= labels.items():
            if not _is_going(there):
                self._delete(Namespace, self.namespace)
            return False
        left = sum(self._delete(Secret, name) for name in secrets)
        for kind in _DELETED:
            for each in self._listed(kind):
                left += 1
                if each.metadata is not None and each.metadata.name and not _is_going(each):
                    self._delete(kind, each.metadata.name)
        return left == 0

    def _listed(self, kind: type[Any]) -> list[Any]:
        try:
            return list(self.client.list(kind, labels=self._mine))
        except ApiError as error:
            if error.status.code != FORBIDDEN or kind.__name__ not in _OF_ADMINISTRATORS:
                raise
            return []

    def _delete(self, kind: type[Any], name: str, grace_period: int | None = None) -> bool:
        """Whether it was there."""
        try:
            # A Job's pods would stay by default.
            self.client.delete(kind, name, cascade=CascadeType.BACKGROUND, grace_period=grace_period)
        except ApiError as error:
            if error.status.code != NOT_FOUND:
                raise
            return False
        return True

    def version(self) -> str:
        """Version of the API server."""
        with adapted(configuration(self._context), ConnectionParams()) as client:
            answer = client.get("/version")
            answer.raise_for_status()
            return str(answer.json()["gitVersion"])

    def count(self, kind: type[Any]) -> int | None:
        """Number of objects of a kind in the whole cluster; None where one may not look."""
        try:
            return sum(1 for _ in self.client.list(kind))
        except ApiError as error:
            if error.status.code != FORBIDDEN:
                raise
            return None


def _labels(each: Any) -> dict[str, str]:
    metadata: ObjectMeta | None = each.metadata
    return dict(metadata.labels or {}) if metadata is not None else {}


def _annotations(each: Any) -> dict[str, str]:
    metadata: ObjectMeta | None = each.metadata
    return dict(metadata.annotations or {}) if metadata is not None else {}


def _is_going(each: Any) -> bool:
    return each is not None and each.metadata is not None and each.metadata.deletionTimestamp is not None


def _born(pod: Pod) -> float:
    created = pod.metadata.creationTimestamp if pod.metadata is not None else None
    return created.timestamp() if created is not None else 0.0
