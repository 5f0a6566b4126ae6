"""
A TLS front in your own Twisted program.  First: tlsproxy devcert certs
"""

import sys

from twisted.internet import reactor
from twisted.python import log

from tlsproxy.patterns.offload import Offload
from tlsproxy.route import Route
from tlsproxy.service import ProxyService
from tlsproxy.tls.contexts import ServerTLS
from tlsproxy.tls.policy import CertificateFiles, ServerPolicy

tls = ServerTLS.load(ServerPolicy(cert=CertificateFiles("certs/server.pem", "certs/server-key.pem")))
shop = Route(name="shop", listen="127.0.0.1:8443", pattern=Offload(tls=tls, upstream="127.0.0.1:8080"))
log.startLogging(sys.stdout)
proxy = ProxyService([shop], reactor)
proxy.startService()
reactor.addSystemEventTrigger("before", "shutdown", proxy.stopService)
reactor.run()
