# -*- test-case-name: tests.tls.test_explain -*-
"""
Failed handshakes, for people: whose fault it is, and what would mend it.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from OpenSSL import SSL

from tlsproxy.errors import HandshakeFailed, PeerEnded, PeerReset, SessionError, TLSProxyError
from tlsproxy.tls.failures import CERTIFICATES, NO_CERTIFICATE, NO_TLS, REASONS, REFUSALS, Trouble
from tlsproxy.tls.native import TLSConnection
from tlsproxy.tls.pem import UNDECODABLE
from tlsproxy.tls.printing import few

__all__ = ["ALERTS", "LATE_REFUSALS", "explainFailure", "explainHandshake", "explainLate"]

ALERTS: Final = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    22: "record_overflow",
    40: "handshake_failure",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    109: "missing_extension",
    110: "unsupported_extension",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
    121: "ech_required",
}
"""The names of TLS alerts (RFC 8446 section 6, RFC 6066, RFC 7301, RFC 9849)."""

LATE_REFUSALS: Final = frozenset({42, 43, 44, 45, 46, 48, 49, 116})
"""The alerts by which a server refuses our certificate, in TLS 1.3 after the handshake."""

_NOT_VERIFIED = "certificate verify failed"
_UNTOLD: Final = Trouble("")

# What OpenSSL says of a first answer that is no TLS record.
_NOT_TLS = {"wrong version number", "packet length too long", "record layer failure", "invalid record header"}


def _names(certificate: x509.Certificate) -> str:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "no names"
    names = [name.value for name in extension if isinstance(name, x509.DNSName)]
    names += [str(name.value) for name in extension if isinstance(name, x509.IPAddress)]
    return few(names) or "no names"


def _certificateWords(stream: TLSConnection, problem: str, name: str) -> str:
    if problem in ("hostname mismatch", "IP address mismatch"):
        try:
            chain = stream.connection.get_peer_cert_chain(as_cryptography=True)
            shown = _names(chain[0]) if chain else ""
        except UNDECODABLE:
            shown = "names that cannot be read"
        return f"it is not for {name}" + (f"; it is for {shown}" if shown else "")
    return problem


def _alertWords(stream: TLSConnection) -> str:
    alert = stream.alert()
    if alert is None:
        return ""
    number, sent = alert
    return f" (alert {ALERTS.get(number, number)} {'sent' if sent else 'received'})"


def _reason(error: SSL.Error) -> str:
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    reasons = [reason for _, _, reason in entries if reason]
    if _NOT_VERIFIED in reasons:
        return _NOT_VERIFIED  # What may stand before it is a detail, such as of a signature that does not fit.
    return next(iter(reasons), "OpenSSL does not say why")


def _sentence(stream: TLSConnection, error: SSL.Error, peer: str, name: str, established: bool = False) -> str:
    alert = stream.alert()
    reason = _reason(error)
    told = _alertWords(stream)
    if alert is not None and not alert[1]:
        # In TLS 1.3 our handshake is over before the peer has looked at our certificate; else all was agreed upon.
        meant = REFUSALS.get(alert[0]) if not established or alert[0] in LATE_REFUSALS else None
        return f"{peer} broke TLS off{told}" + (f": {meant.words}{meant.remedy(peer)}" if meant else "")
    own = stream.connection.get_app_data()
    if own is not None and own.refusal:
        return f"TLS with {peer} failed: {own.refusal}{told}"
    if reason == _NOT_VERIFIED:
        refusal: str = own.judgement.refusal if own is not None and own.judgement is not None else ""
        problem = stream.verifyProblem() or "it does not verify"
        trouble = CERTIFICATES.get(problem, _UNTOLD) if not refusal else _UNTOLD
        words = refusal or trouble.words or _certificateWords(stream, problem, name)
        return f"{peer}'s certificate is refused: {words}{told}{trouble.remedy(peer)}"
    if reason == "peer did not return a certificate":
        return f"{peer} {NO_CERTIFICATE.words}{told}{NO_CERTIFICATE.remedy(peer)}"
    if reason in _NOT_TLS and not established:
        return f"{peer} {NO_TLS.words}{told}{NO_TLS.remedy(peer)}"
    trouble = REASONS.get(reason, _UNTOLD)
    return f"TLS with {peer} failed: {trouble.words or reason}{told}{trouble.remedy(peer)}"


def explainHandshake(stream: TLSConnection, error: Exception, peer: str, name: str = "") -> SessionError:
    """
    Say why a handshake failed.

    @param stream: The stream, right after the call that raised.
    @param error: What it raised.
    @param peer: C{"the client"} or C{"the upstream"}.
    @param name: The name that the peer's certificate had to show.
    """
    if isinstance(error, SessionError):
        return error
    if isinstance(error, SSL.ZeroReturnError):
        return PeerEnded(f"{peer} closed the connection in the middle of the TLS handshake{_alertWords(stream)}")
    if isinstance(error, SSL.SysCallError):
        if error.args[0] == -1:
            return PeerEnded(f"{peer} closed the connection in the middle of the TLS handshake")
        return PeerReset(f"{peer} reset the connection in the middle of the TLS handshake")
    if isinstance(error, (SSL.Error, TLSProxyError)):
        return HandshakeFailed(_sentence(stream, error, peer, name) if isinstance(error, SSL.Error) else str(error))
    raise error


def explainFailure(stream: TLSConnection, peer: str) -> str:
    """
    Say why an established connection failed.

    @param stream: The stream, right after the call that made it fail.
    @param peer: C{"the client"} or C{"the upstream"}.
    """
    if isinstance(stream.problem, SSL.Error):
        return _sentence(stream, stream.problem, peer, "", established=True)
    return f"{peer} broke TLS"


def explainLate(stream: TLSConnection, peer: str) -> str:
    """
    Say why a server refuses our certificate, which in TLS 1.3 it does after the handshake.

    @param stream: The stream, right after the call that failed.
    @param peer: What the server is called in messages.
    @return: C{""} where that is not why it failed.
    """
    alert = stream.alert()
    if alert is None or alert[1] or alert[0] not in LATE_REFUSALS:
        return ""
    meant = REFUSALS[alert[0]]
    return f"{peer} broke TLS off{_alertWords(stream)}: {meant.words}{meant.remedy(peer)}"
