"""
A web site with TLS in front of it, in one process.  First: tlsproxy devcert certs

Then: curl --cacert certs/ca.pem https://localhost:8443/
And, as somebody: curl --cacert certs/ca.pem --cert certs/client.pem --key certs/client-key.pem https://localhost:8443/
"""

import sys

from twisted.internet import reactor
from twisted.python import log
from twisted.web.resource import Resource
from twisted.web.server import Site

from tlsproxy.endpoints import RouteServerEndpoint
from tlsproxy.patterns.offload import Offload
from tlsproxy.route import Route
from tlsproxy.tls.contexts import ServerTLS
from tlsproxy.tls.policy import CertificateFiles, ServerPolicy


class Greeting(Resource):
    """
    The only page.
    """

    isLeaf = True

    def render_GET(self, request):
        """
        Greet whoever comes, by the name in the certificate.
        """
        certificate = request.transport.getPeerCertificate()
        name = certificate.get_subject().CN if certificate is not None else "stranger"
        secure = "nobody listens" if request.isSecure() else "anybody may listen"
        return f"Hello {name}, {secure}\n".encode()


tls = ServerTLS.load(
    ServerPolicy(
        cert=CertificateFiles("certs/server.pem", "certs/server-key.pem"),
        clientCa=("certs/ca.pem",),
        clientAuth="optional",
    )
)
front = Route(name="site", listen="127.0.0.1:8443", pattern=Offload(tls=tls))
log.startLogging(sys.stdout)
RouteServerEndpoint(front, reactor).listen(Site(Greeting())).addErrback(log.err)
reactor.run()
