# -*- test-case-name: tests.enrolling.test_joining -*-
"""
How a client proxy enrolls: from a token to a folder with all that it takes to run.

The token names the reverse proxy's CA and the key that signs the mapping, so nobody has to be believed on the way.
"""

from __future__ import annotations

import hmac
import tempfile
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tlsproxy.enrolling.asking import Asking, AskingRefused
from tlsproxy.enrolling.enrollment import Enrollment, parseURL
from tlsproxy.enrolling.fetching import tlsFor
from tlsproxy.enrolling.folder import AUTHORITY, CONFIGURATION, MAPPING, TOKEN_KEY, Folder, FolderProblem
from tlsproxy.enrolling.possession import Certified, Unfit, certified, pinned, requestFor
from tlsproxy.signedmapping import MappingFacts, MappingProblem, Trust, accept, readFacts, shownTime
from tlsproxy.tls.contexts import ClientTLS
from tlsproxy.tls.signatures import pinOf
from tlsproxy.wire.enrollanswer import IssuedAnswer
from tlsproxy.wire.enrolltoken import Token

__all__ = ["Joined", "join"]

_UNAUTHORIZED = 401


@frozen
class Joined:
    """
    What came of it.

    @ivar certified: The certificate.
    @ivar mapping: What the mapping says of itself.
    @ivar authorities: What the reverse proxy is verified by.
    @ivar configured: Whether a configuration was written; there may have been one.
    """

    certified: Certified
    mapping: MappingFacts
    authorities: tuple[x509.Certificate, ...]
    configured: bool


async def join(
    folder: Folder,
    token: Token,
    asking: Asking,
    *,
    url: str,
    connect: str = "",
    configuration: bytes,
    now: Callable[[], datetime],
    check: Callable[[bytes], object] = lambda _: None,
) -> Joined:
    """
    Enroll.  Whatever has interrupted it, it can be done again with the same token.

    @param folder: Where to keep what comes.
    @param token: The token.
    @param asking: Asks the reverse proxy.
    @param url: Where the reverse proxy enrolls.
    @param connect: Where it is connected with; C{""} for the host of the URL.
    @param configuration: The configuration to write, if there is none.
    @param now: Tells the time, with its time zone.
    @param check: See L{tlsproxy.enrolling.renewal.Renewal}.
    @raise tlsproxy.enrolling.asking.AskingFailed: The reverse proxy cannot be reached, or refuses.
    @raise FolderProblem: The folder cannot be used.
    @raise Unfit: What comes is not to be had.
    """
    host = parseURL(url).host
    folder.make()
    with folder.locked():
        stranger = await asking.authorities(tlsFor(host, auth="none"))
        tls = _verifying(host, _pem(pinned(stranger, token.authorityPin, now())))
        # The token names a key only.  All else in the CA could be by whoever stands between, and be kept: when it ends,
        # for example.  Who is verified by that key says what it has to be.
        authorities = pinned(await asking.authorities(tls), token.authorityPin, now())
        pem = _pem(authorities)
        key = folder.nextKey(f"token {token.id}", TOKEN_KEY)
        try:
            answer = await asking.enroll(tls, token, requestFor(key))
        except AskingRefused as e:
            if e.status == _UNAUTHORIZED:
                raise AskingRefused(f"{e}: {_insteadOf(folder)}", e.status, e.retryAfter) from None
            raise
        mine = certified(answer.certificate, key, now())
        facts, trust = _mapping(answer, token, mine, _before(folder), now(), check)
        enrollment = Enrollment(url=url, connect=connect, serverName=answer.serverName, trust=trust, fetched=now())
        folder.write(AUTHORITY, pem)
        folder.write(MAPPING, answer.mapping)
        folder.keepEnrollment(enrollment.renews(mine.serial, now(), answer.renewAfter, mine.notAfter))
        folder.keepCertificate(mine, key)
        configured = not Path(folder.file(CONFIGURATION)).exists()
        if configured:
            folder.write(CONFIGURATION, configuration)
        folder.forgetKey()  # That of a certificate which has no place here any more.
        folder.forgetKey(TOKEN_KEY)
    return Joined(mine, facts, tuple(authorities), configured)


def _pem(certificates: Iterable[x509.Certificate]) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def _insteadOf(folder: Folder) -> str:
    """
    Say what to do about a token that is refused, as it is for one that has just been used here.
    """
    try:
        mine = folder.certificate()
    except FolderProblem:
        return "have a new one made"
    until = shownTime(mine.notAfter)
    return f"have a new one made, or go on with the certificate that {mine.name} has here until {until}"


def _verifying(host: str, pem: bytes) -> ClientTLS:
    """
    Make TLS that verifies by some authorities, which are in no file yet: an enrollment that there is may go on by
    others.
    """
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(pem)
        file.flush()
        return tlsFor(host, ca=(file.name,))


def _before(folder: Folder) -> Trust | None:
    try:
        return folder.enrollment().trust
    except FolderProblem:
        return None


def _mapping(
    answer: IssuedAnswer,
    token: Token,
    mine: Certified,
    before: Trust | None,
    now: datetime,
    check: Callable[[bytes], object],
) -> tuple[MappingFacts, Trust]:
    """
    Take the mapping.

    @param before: What mappings were taken by until now.
    @raise Unfit: It is not to be had.
    """
    try:
        signer = readFacts(answer.mapping).signer
        if not hmac.compare_digest(pinOf(signer), token.signerPin):
            raise MappingProblem("it is not signed by the key that the token names")
        trust = Trust((signer,), mine.domain)
        if before is not None and before.audience == mine.domain and signer in before.keys:
            trust = Trust((signer,), mine.domain, before.version, before.digest)
        accepted = accept(answer.mapping, trust, now)
        check(answer.mapping)
    except MappingProblem as e:
        raise Unfit(f"the mapping that came is refused: {e}") from None
    return accepted
