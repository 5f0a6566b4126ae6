"""
What tests of protocol handlers, routes and embedded proxies are made of.

  - L{play}: a handler tested by a table of what is said and what is heard;
  - L{HandlerConformance}: that a handler which passes bytes on unchanged keeps every promise of a session;
  - L{Network}: whole routes without a network and without waiting, with scripted peers and a clock that stands still;
  - L{serverTLS}, L{clientTLS}, L{certificate}: TLS with certificates made on the fly.

It needs nothing but tlsproxy and Twisted.  Nothing of tlsproxy itself needs it.
"""

from tlsproxy.testing.certificates import NOW, authority, certificate, clientTLS, pem, serverTLS
from tlsproxy.testing.handlerconformance import HandlerConformance, Streams, pairings
from tlsproxy.testing.listener import Listener
from tlsproxy.testing.network import Network
from tlsproxy.testing.streampeers import Browser, Origin, Peer, TLSPeer
from tlsproxy.testing.table import UPSTREAM, Row, play
from tlsproxy.testing.upstreams import Upstream

__all__ = [
    "NOW",
    "UPSTREAM",
    "Browser",
    "HandlerConformance",
    "Listener",
    "Network",
    "Origin",
    "Peer",
    "Row",
    "Streams",
    "TLSPeer",
    "Upstream",
    "authority",
    "certificate",
    "clientTLS",
    "pairings",
    "pem",
    "play",
    "serverTLS",
]
