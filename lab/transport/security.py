"""The one place where channels and servers get their credentials."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from lab.errors import SpecError
from lab.identity import OPERATOR, Identity
from lab.identity import folder as folders

ENVIRONMENT_VARIABLE = "LAB_SECURITY"
IDENTITY_VARIABLE = "LAB_IDENTITY"
PLAINTEXT, MTLS = "plaintext", "mtls"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Security:
    """How the two ends of a connection know each other.

    Attributes:
        mode: ``plaintext``: no identity, a peer is believed to be who it says; ``mtls``: both ends show a certificate
            of the lab's authority.
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
        """What the runtime that started this process has set in its environment."""
        mode = os.environ.get(ENVIRONMENT_VARIABLE, PLAINTEXT)
        return cls(mode, "" if mode == PLAINTEXT else os.environ.get(IDENTITY_VARIABLE, ""))

    @property
    def is_mtls(self) -> bool:
        """Whether there are certificates."""
        return self.mode == MTLS

    def version(self) -> str:
        """Which certificate is the present one.

        Raises:
            SpecError: there is none.
        """
        try:
            return folders.version(Path(self.folder))
        except OSError as error:
            raise SpecError(f"security: no certificate in {self.folder}: {error.strerror}") from None

    def lifetime_s(self) -> float:
        """For how long the present certificate was made to be valid, seconds; to be asked with ``mtls`` only."""
        return folders.read_term(Path(self.folder)).lifetime_s

    def channel_credentials(self) -> grpc.ChannelCredentials | None:
        """What a client shows and demands; None means plaintext. A certificate that comes later is not noticed."""
        if not self.is_mtls:
            return None
        material = self._material()
        return grpc.ssl_channel_credentials(material.authorities, material.key, material.certificate)

    def server_credentials(self) -> grpc.ServerCredentials | None:
        """What a server shows and demands; None means plaintext. It shows the present certificate at any time."""
        if not self.is_mtls:
            return None
        seen = self.version()

        def newer() -> grpc.ServerCertificateConfiguration | None:
            # Asked at every handshake. If what is there cannot be read, the one before serves on.
            nonlocal seen
            try:
                if (present := self.version()) == seen:
                    return None
                configuration = self._server_configuration()
            except SpecError as error:
                _log.warning("the certificate before serves on: %s", error)
                return None
            seen = present
            return configuration

        return grpc.dynamic_ssl_server_credentials(
            self._server_configuration(),
            newer,  # type: ignore[arg-type]  # None means that nothing has changed
            require_client_authentication=True,
        )

    def _server_configuration(self) -> grpc.ServerCertificateConfiguration:
        material = self._material()
        return grpc.ssl_server_certificate_configuration([(material.key, material.certificate)], material.authorities)

    def _material(self) -> folders.Material:
        try:
            return folders.read(Path(self.folder))
        except OSError as error:
            raise SpecError(f"security: no certificate in {self.folder}: {error.strerror}") from None


def peer_identity(context: grpc.aio.ServicerContext[Any, Any]) -> Identity | None:
    """Who is at the other end of a call; None in plaintext, and if its certificate names nobody of a lab."""
    # Not what the certificate's alternative names say: there a host name may be spelled like a SPIFFE id.
    uris = list(context.auth_context().get("peer_spiffe_id", ()))
    return Identity.of(uris[0].decode()) if len(uris) == 1 else None


def proved_caller(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """The one caller in whose name the other end may ask; empty where nobody proves anything, and of those trusted.

    Trusted to say in whose name they ask are the operator, and the services between callers and models.
    """
    identity = peer_identity(context)
    return identity.caller if identity is not None else ""


def is_operator(identity: Identity | None) -> bool:
    """Whether this is who holds the ``lab`` command, and may do everything."""
    return identity is not None and identity.role == OPERATOR
