# -*- test-case-name: tests.tls.test_shown -*-
"""
From a policy to the certificates that one side shows.
"""

from __future__ import annotations

from datetime import datetime

from attrs import frozen
from OpenSSL import SSL

from tlsproxy.tls.certificates import Identity, validity
from tlsproxy.tls.identities import findIdentities
from tlsproxy.tls.parameters import Checks, contextFor
from tlsproxy.tls.policy import ClientPolicy, ServerPolicy
from tlsproxy.tls.presenting import Presented, present, tryPresenting

__all__ = ["Shown", "presentedBy", "readShown"]


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

    @param method: The role: C{SSL.TLS_SERVER_METHOD} or C{SSL.TLS_CLIENT_METHOD}.
    @param checks: Collects what is wrong.
    @param now: The time that certificates have to be valid at.
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


def presentedBy(policy: ClientPolicy, identities: tuple[Identity, ...]) -> Presented:
    """
    Make what a client chooses from that has several certificates.
    """
    contexts = []
    for identity in identities:
        context = contextFor(SSL.TLS_CLIENT_METHOD, policy)
        present(context, (identity,))
        contexts.append(context)
    return Presented(identities, tuple(contexts))
