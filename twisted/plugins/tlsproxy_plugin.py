# -*- test-case-name: tests.test_plugin -*-
"""
Tells C{twistd} and C{twist} that there is a C{tlsproxy} command, and C{tlsproxy} which handlers come with it.
"""

from __future__ import annotations

from twisted.application.service import ServiceMaker

from tlsproxy.plugin import HandlerFactory

tlsproxy = ServiceMaker(
    "tlsproxy",
    "tlsproxy.tap",
    "TLS and DTLS proxies: offload, encrypt, bridge, passthrough, connect",
    "tlsproxy",
)

tap = HandlerFactory(
    "tap",
    "tlsproxy.handlers.tap.Tap",
    "writes what passes, in clear, into a file for Wireshark",
)
rate = HandlerFactory(
    "rate",
    "tlsproxy.handlers.rate.Rate",
    "lets only so many bytes a second pass",
)
starttlsSMTP = HandlerFactory(
    "starttls-smtp",
    "tlsproxy.handlers.starttlssmtp.StartTLSSMTP",
    "starts TLS where mail servers and their clients agree to it by STARTTLS",
)
