# -*- test-case-name: tests.tls.test_presenting -*-
"""
Having a context present identities, certificate, chain and key; and what a policy has to be presented.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Final

from attrs import frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from tlsproxy.tls.certificates import Identity, describe, validity
from tlsproxy.tls.files import CertificateProblem
from tlsproxy.tls.identities import findIdentities
from tlsproxy.tls.parameters import Checks, contextFor
from tlsproxy.tls.pem import UNDECODABLE
from tlsproxy.tls.policy import ClientPolicy, ServerPolicy
from tlsproxy.tls.printing import few, printable

__all__ = ["Presented", "Shown", "present", "readShown", "tryPresenting"]

_DESCRIPTORS: Final = "/proc/self/fd"


@frozen
class Shown:
    """
    What one side shows.

    @ivar identities: The identities.
    @ivar files: What was read for them.
    @ivar warnings: What is doubtful but works, one sentence each.
    """

    identities: tuple[Identity, ...] = ()
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def readShown(policy: ServerPolicy | ClientPolicy, method: int, checks: Checks, now: datetime) -> Shown:
    """
    Read the certificates of a policy, and see that OpenSSL takes them.
    """
    found = findIdentities(policy.cert)
    for place, sentence in found.problems:
        checks.tell(f"cert{place}", sentence)
    warnings: list[str] = []
    for identity in found.identities:
        warnings += identity.warnings
        warnings += validity(identity, now)
    if not checks.problems:
        for problem in tryPresenting(contextFor(method, policy), found.identities):
            checks.tell("cert", str(problem))
    return Shown(tuple(found.identities), tuple(dict.fromkeys(found.files)), tuple(dict.fromkeys(warnings)))


@frozen
class Presented:
    """
    The certificates of a client that has several, of which each server gets the one that it accepts.

    @ivar identities: The identities, the most wanted first.
    @ivar contexts: For each, a context that presents it.
    """

    identities: tuple[Identity, ...]
    contexts: tuple[SSL.Context, ...]

    @classmethod
    def make(cls, method: int, policy: ClientPolicy, identities: tuple[Identity, ...]) -> Presented:
        """
        Make the contexts.

        @param method: as for L{contextFor}.
        @raise CertificateProblem: if OpenSSL does not take one of the identities.
        """
        contexts = []
        for identity in identities:
            context = contextFor(method, policy)
            present(context, (identity,))
            contexts.append(context)
        return cls(identities, tuple(contexts))

    def choose(self, announced: Sequence[bytes]) -> tuple[SSL.Context | None, str]:
        """
        Choose one: the first whose chain leads to one of the authorities that the server accepts, and that has not
        expired, if there is such.

        @param announced: The names of those authorities, in DER; none where it does not tell.
        @return: What presents it; or L{None}, and why none fits, as what follows C{TLS with the upstream failed}.
        """
        fitting = [
            (identity, context)
            for identity, context in zip(self.identities, self.contexts, strict=True)
            if not announced or any(each.issuer.public_bytes() in announced for each in identity.chain)
        ]
        if not fitting:
            issuers = few(dict.fromkeys(printable(one.chain[-1].issuer.rfc4514_string()) for one in self.identities))
            return None, (
                f"it accepts certificates of {len(announced)} CAs, and none of ours, which are of {issuers}; "
                "give upstream_tls a cert of a CA that it trusts"
            )
        now = datetime.now(UTC)
        return next((context for identity, context in fitting if now < identity.notAfter), fitting[0][1]), ""


def present(context: SSL.Context, identities: Sequence[Identity]) -> None:
    """
    Have a context present some identities, each with another kind of key; the peer's abilities choose among them.

    @raise CertificateProblem: if OpenSSL does not take one.
    """
    # A context's extra chain goes with all of its certificates, so each gets one of its own where they differ.
    shared = len({identity.chain[1:] for identity in identities}) == 1
    for identity in identities:
        if shared:
            _use(context, identity)
        else:
            with _chainFile(identity) as file:
                _use(context, identity, file)
    if shared:
        for certificate in identities[0].chain[1:]:
            context.add_extra_chain_cert(certificate)


def tryPresenting(context: SSL.Context, identities: Sequence[Identity]) -> Iterator[CertificateProblem]:
    """
    Tell which identities OpenSSL does not take.  It goes by the kinds of the keys and by the signatures of a chain, so
    of those that are the same in both, one is tried.

    @param context: a context as they are meant for, which is of no use afterward.
    """
    kinds: dict[object, Identity] = {}
    for identity in identities:
        kind = identity.keyType, identity.chain[0].signature_algorithm_oid, tuple(map(_kindOf, identity.chain[1:]))
        kinds.setdefault(kind, identity)
    for identity in kinds.values():
        try:
            _use(context, identity)
            if identity.chain[1:]:
                with _chainFile(identity) as file:
                    _use(context, identity, file)
        except CertificateProblem as problem:
            yield problem


def _kindOf(issuer: x509.Certificate) -> tuple[object, ...]:
    """
    Tell what the strength of an issuer depends on.
    """
    try:
        size = getattr(issuer.public_key(), "key_size", 0)
    except (*UNDECODABLE, UnsupportedAlgorithm):
        size = 0
    return issuer.public_key_algorithm_oid, size, issuer.signature_algorithm_oid


def _use(context: SSL.Context, identity: Identity, chainFile: str | None = None) -> None:
    try:
        if chainFile is None:
            context.use_certificate(identity.chain[0])
        else:
            context.use_certificate_chain_file(chainFile)
        context.use_privatekey(identity.key)
    except SSL.Error as error:
        reasons = [entry[2] for entry in error.args[0]] if error.args else []
        what = "" if chainFile is None else "its chain, behind "
        raise CertificateProblem(
            f"{_name(identity)} cannot be used, as OpenSSL says: {', '.join(filter(None, reasons)) or 'nothing'}: "
            f"give another than {what}{describe(identity.chain[0])}"
        ) from error


def _name(identity: Identity) -> str:
    return printable(identity.files[0]) if identity.files else "the certificate"


@contextmanager
def _chainFile(identity: Identity) -> Iterator[str]:
    """
    Write a chain to where OpenSSL can read it: only from a file it takes one for a single certificate of a context.
    """
    chain = b"".join(each.public_bytes(Encoding.PEM) for each in identity.chain)
    with ExitStack() as stack:
        try:
            if hasattr(os, "memfd_create") and os.path.isdir(_DESCRIPTORS):
                descriptor = os.memfd_create("chain", os.MFD_CLOEXEC)
                stack.callback(os.close, descriptor)
                os.write(descriptor, chain)
                path = f"{_DESCRIPTORS}/{descriptor}"
            else:
                file = stack.enter_context(tempfile.NamedTemporaryFile())
                file.write(chain)
                file.flush()
                path = file.name
        except OSError as error:
            raise CertificateProblem(f"{_name(identity)} cannot be used now, for want of a file: {error}") from error
        yield path
