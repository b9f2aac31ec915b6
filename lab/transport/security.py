"""Credentials of channels and servers, and the identities of peers."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio

from lab.errors import SpecError
from lab.identity import OPERATOR, Identity
from lab.identity import folder as folders

T = TypeVar("T")

ENVIRONMENT_VARIABLE = "LAB_SECURITY"
IDENTITY_VARIABLE = "LAB_IDENTITY"
PLAINTEXT, MTLS = "plaintext", "mtls"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Security:
    """Credentials of one end of a connection.

    Attributes:
        mode: ``plaintext``: peers prove no identity, and the one they claim is believed; ``mtls``: both ends present a
            certificate of the lab's authority.
        folder: for ``mtls``, where this end's certificate is, see :mod:`lab.identity.folder`.
    """

    mode: str = PLAINTEXT
    folder: str = ""

    def __post_init__(self) -> None:
        if self.mode not in (PLAINTEXT, MTLS):
            raise SpecError(f"security: {self.mode!r} is not known; write '{PLAINTEXT}' or '{MTLS}'")
        if self.mode == MTLS and not self.folder:
            raise SpecError(f"security: {MTLS!r} needs a certificate: set {IDENTITY_VARIABLE} to its folder")

    @classmethod
    def of_this_process(cls) -> Security:
        """Credentials from this process's environment, where its runtime has put them."""
        mode = os.environ.get(ENVIRONMENT_VARIABLE, PLAINTEXT)
        return cls(mode, "" if mode == PLAINTEXT else os.environ.get(IDENTITY_VARIABLE, ""))

    @property
    def is_mtls(self) -> bool:
        """Whether both ends present certificates."""
        return self.mode == MTLS

    def version(self) -> str:
        """Version of the current certificate.

        Raises:
            SpecError: there is none.
        """
        return self._read(folders.version)

    def lifetime_s(self) -> float:
        """Lifetime of the current certificate, seconds; with ``mtls`` only."""
        return folders.read_info(Path(self.folder)).lifetime_s

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """A client's credentials, with ``mtls`` only. They keep the current certificate."""
        material = self._read(folders.read)
        return grpc.ssl_channel_credentials(material.authorities, material.key, material.certificate)

    def server_credentials(self) -> grpc.ServerCredentials | None:
        """A server's credentials; None means plaintext. They follow the certificate's rotation."""
        if not self.is_mtls:
            return None
        return grpc.dynamic_ssl_server_credentials(
            self._server_configuration(),
            self.renewing(self._server_configuration),  # type: ignore[arg-type]  # None means no change
            require_client_authentication=True,
        )

    def renewing(self, make: Callable[[], T]) -> Callable[[], T | None]:
        """Makes a function to call at every handshake: what ``make`` returns for a new certificate, else None.

        If the current certificate cannot be read, the previous one stays in use.
        """
        seen = self.version()

        def newer() -> T | None:
            nonlocal seen
            try:
                if (version := self.version()) == seen:
                    return None
                made = make()
            except SpecError as error:
                _log.warning("the previous certificate stays in use: %s", error)
                return None
            seen = version
            return made

        return newer

    def _server_configuration(self) -> grpc.ServerCertificateConfiguration:
        material = self._read(folders.read)
        return grpc.ssl_server_certificate_configuration([(material.key, material.certificate)], material.authorities)

    def _read(self, read: Callable[[Path], T]) -> T:
        try:
            return read(Path(self.folder))
        except OSError as error:
            raise SpecError(f"security: no certificate in {self.folder}: {error.strerror}") from None


def peer_identity(context: grpc.aio.ServicerContext[Any, Any]) -> Identity | None:
    """Identity of the other end of a call; None in plaintext, and if its certificate names no identity of a lab."""
    # Not from the certificate's alternative names, among which a DNS name may look like a SPIFFE id.
    uris = list(context.auth_context().get("peer_spiffe_id", ()))
    return Identity.of(uris[0].decode()) if len(uris) == 1 else None


def proved_caller(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """The only caller that the other end may act as; empty if it may act as any.

    That is so in plaintext, for the operator, and for the services between callers and models.
    """
    identity = peer_identity(context)
    return identity.caller if identity is not None else ""


def is_operator(identity: Identity | None) -> bool:
    """Whether this is the identity of the ``lab`` command, which may do everything."""
    return identity is not None and identity.role == OPERATOR
