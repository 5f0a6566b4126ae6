# -*- test-case-name: tests.test_plugin -*-
"""
Tells C{twistd} and C{twist} that there is a C{tlsproxy} command.
"""

from __future__ import annotations

from twisted.application.service import ServiceMaker

tlsproxy = ServiceMaker(
    "tlsproxy",
    "tlsproxy.tap",
    "TLS reverse and forward proxies: offload, encrypt or bridge a connection",
    "tlsproxy",
)
