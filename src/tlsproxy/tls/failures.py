# -*- test-case-name: tests.tls.test_failures -*-
"""
What makes handshakes fail, in words, and what would mend it: the tables behind L{tlsproxy.tls.explain}.

The options that are named are those of C{[route.tls]} for the near side, of C{[route.upstream_tls]} for the far one,
and of C{[[reverse_proxy]]} in a mapping where that is a reverse proxy.

@var REFUSALS: What an alert says that a peer sends us.
@var CERTIFICATES: What is wrong with a peer's certificate, by OpenSSL's words for it.
@var REASONS: What else fails, by OpenSSL's reason for it.
@var NO_CERTIFICATE: The client has none.
@var NO_TLS: What answers is no TLS.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import frozen

__all__ = ["CERTIFICATES", "CLIENT", "NO_CERTIFICATE", "NO_TLS", "REASONS", "REFUSALS", "REVERSE_PROXY", "Trouble"]

CLIENT: Final = "the client"
"""What the client is called in messages."""
REVERSE_PROXY: Final = "the reverse proxy"
"""What begins the name of a reverse proxy in messages."""


@frozen
class Trouble:
    """
    One kind of failure.

    @ivar words: What is wrong, C{""} where OpenSSL's own words say it.
    @ivar near: What would mend it where the peer is the client; C{""} where that cannot be said, or cannot be.
    @ivar far: The same where it is the upstream.
    @ivar proxy: The same where it is a reverse proxy, if that is something else; L{None} if it is not.
    """

    words: str
    near: str = ""
    far: str = ""
    proxy: str | None = None

    def remedy(self, peer: str) -> str:
        """
        Tell what would mend it, as the end of a sentence.

        @param peer: What the peer is called in messages.
        """
        told = self.near if peer == CLIENT else self.far
        if self.proxy is not None and peer.startswith(REVERSE_PROXY):
            told = self.proxy
        return f"; {told}" if told else ""


_COMPARE: Final = "compare its settings with ciphers, groups and min_version of {}"
_NEAR_VERSIONS: Final = "it has to speak one from min_version to max_version of tls"
_FAR_VERSIONS: Final = "min_version and max_version of upstream_tls say which"
_OTHER_KEY: Final = "show one with another kind of key, RSA or EC"

REFUSALS: Final[Mapping[int, Trouble]] = {
    40: Trouble(
        "it shares no TLS version, cipher suite or group with us, or it wants a certificate",
        _COMPARE.format("tls"),
        _COMPARE.format("upstream_tls") + ", and give that a cert if it wants one",
    ),
    42: Trouble(
        "it finds our certificate bad, or not for the name it wants",
        "show one for the name that it asks for",
        "give upstream_tls the cert that it expects",
    ),
    43: Trouble(
        "it does not take our kind of certificate",
        "show one that is made for servers (serverAuth), or one with another kind of key, RSA or EC",
        "show one that is made for clients (clientAuth), or one with another kind of key, RSA or EC",
    ),
    44: Trouble("it holds our certificate for revoked", "get a new one", "get a new one"),
    45: Trouble(
        "it finds our certificate expired",
        "renew it, or set the client's clock right",
        "renew the cert of upstream_tls, or set the upstream's clock right",
        "renew the cert of upstream_tls, or set its clock right",
    ),
    46: Trouble("it does not accept our certificate", "its own log says why", "its own log says why"),
    48: Trouble(
        "it does not know the CA that issued our certificate",
        "have it trust that CA and show the whole chain, or show a certificate of a CA that it trusts",
        "have it trust that CA, or give upstream_tls a cert of a CA that it trusts",
    ),
    49: Trouble(
        "it knows our certificate and does not let us in",
        "its own log says why",
        "have it let that certificate in",
    ),
    70: Trouble("it speaks none of our TLS versions", _NEAR_VERSIONS, _FAR_VERSIONS),
    71: Trouble("it demands more security than we offer", _COMPARE.format("tls"), _COMPARE.format("upstream_tls")),
    112: Trouble(
        "it does not know the server name asked for",
        far="say in name of upstream_tls what it is known by",
        proxy="say in server_name of its [[reverse_proxy]] what it is known by",
    ),
    116: Trouble("it demands a certificate and was shown none", far="give upstream_tls a cert"),
    120: Trouble(
        "it speaks none of the application protocols offered",
        far="offer one that it speaks, by alpn of upstream_tls, or of tls in mode bridge",
        proxy="it has to be a proxy for tunnels (HTTP/1.1); see whether that is the right port",
    ),
}

_WEAK: Final = Trouble(
    "", "it needs a new one, with a stronger key or signature", "it needs a new one, with a stronger key or signature"
)
_UNKNOWN_ISSUER: Final = Trouble(
    "",
    "it has to come from a CA in client_ca, and the client has to send all of the chain below that",
    "it has to come from a CA in ca of upstream_tls, and the upstream has to send all of the chain below that",
    "it has to come from a CA in ca of upstream_tls, with all of the chain below that",
)
_CA_NOT_TRUSTED: Final = Trouble(
    "", "add its CA to client_ca if that may be trusted", "add its CA to ca of upstream_tls if that may be trusted"
)
_OTHER_NAME: Final = Trouble(
    "",
    far="if that is the right server, say its name in name of upstream_tls",
    proxy="if that is the right one, say its name in server_name of its [[reverse_proxy]]",
)

CERTIFICATES: Final[Mapping[str, Trouble]] = {
    "hostname mismatch": _OTHER_NAME,
    "IP address mismatch": _OTHER_NAME,
    "certificate has expired": Trouble(
        "", "the client has to renew it", "whoever runs the upstream has to renew it", "whoever runs it has to renew it"
    ),
    "certificate is not yet valid": Trouble("", "set the clocks right", "set the clocks right"),
    "unable to get local issuer certificate": _UNKNOWN_ISSUER,
    "unable to get issuer certificate": _UNKNOWN_ISSUER,
    "unable to verify the first certificate": _UNKNOWN_ISSUER,
    "self-signed certificate": Trouble(
        "",
        "add it to client_ca if it may be trusted",
        "add it to ca of upstream_tls if it may be trusted",
    ),
    "self-signed certificate in certificate chain": _CA_NOT_TRUSTED,
    "certificate revoked": Trouble(
        "", "the client needs a new one", "the upstream needs a new one", "it needs a new one"
    ),
    "unsuitable certificate purpose": Trouble(
        "", "it has to be made for clients (clientAuth)", "it has to be made for servers (serverAuth)"
    ),
    "EE certificate key too weak": _WEAK,
    "CA certificate key too weak": _WEAK,
    "CA signature digest algorithm too weak": _WEAK,
}

_NO_VERSION: Final = Trouble("no TLS version is shared", _NEAR_VERSIONS, _FAR_VERSIONS)
_NO_GROUP: Final = Trouble(
    "no key exchange group is shared", "groups of tls says which we take", "groups of upstream_tls says which we take"
)
_PLAIN_HTTP: Final = Trouble("it speaks plain HTTP, not TLS", "have it ask for https://")
_DAMAGED: Final = Trouble("a record does not verify")

REASONS: Final[Mapping[str, Trouble]] = {
    "no shared cipher": Trouble(
        "no cipher suite is shared",
        "ciphers and ciphersuites of tls say which we take, and with TLS 1.2 it has to fit the kind of our key",
        "ciphers and ciphersuites of upstream_tls say which we take",
    ),
    "unsupported protocol": _NO_VERSION,
    "version too low": _NO_VERSION,
    "no suitable key share": _NO_GROUP,
    "no suitable groups": _NO_GROUP,
    "no suitable signature algorithm": Trouble(
        "no signature algorithm is shared that fits the certificate", _OTHER_KEY, _OTHER_KEY
    ),
    "http request": _PLAIN_HTTP,
    "https proxy request": _PLAIN_HTTP,
    "unexpected eof while reading": Trouble("it ended the stream"),
    "bad extension": Trouble("a TLS extension does not fit, such as an application protocol that nobody offered"),
    "cipher operation failed": _DAMAGED,
    "decryption failed or bad record mac": _DAMAGED,
}

NO_CERTIFICATE: Final = Trouble(
    "showed no certificate, and one is demanded",
    'give it one of a CA in client_ca, or, where the mode can, let it in without by client_auth = "optional"',
)
NO_TLS: Final = Trouble(
    "does not speak TLS",
    far="see whether that is the right port; an upstream without TLS is for mode offload",
    proxy="see whether that is the right port",
)
