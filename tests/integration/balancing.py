# -*- test-case-name: tests.integration.test_proxy_protocol -*-
"""
HAProxy and nginx, in front of the proxy and behind it.
"""

from __future__ import annotations

import socket
from pathlib import Path

from tests.integration.ports import isListened
from tests.integration.running import Child, IntegrationTestCase, freePort, waitUntil
from tests.integration.talking import Talker
from tests.peers import requirePeer

CLIENT = "127.0.0.9"
"""Where clients are; peers and the proxy are elsewhere on loopback."""

_STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


class BalancingTestCase(IntegrationTestCase):
    """
    A test with peers that speak the PROXY protocol.
    """

    _started = 0

    def haproxy(self, *sections: str) -> None:
        """
        Start haproxy.

        @param sections: Parts of its configuration; those that listen do so on C{127.0.0.1}.
        """
        self._started += 1
        config = self.folder / f"haproxy{self._started}.cfg"
        config.write_text(
            "\n".join(
                [
                    "global",
                    "defaults",
                    "  timeout connect 20s",
                    "  timeout client 20s",
                    "  timeout server 20s",
                    *sections,
                    "",
                ]
            )
        )
        Child(self, self.folder, config.stem, [requirePeer("haproxy"), "-db", "-f", str(config)])

    def answering(self, kind: str, port: int, tls: bool) -> None:
        """
        Start a server that answers HTTP with what it was told of its client.

        @param kind: C{"haproxy"} or C{"nginx"}.
        @param tls: Whether it speaks TLS behind the header.
        """
        if kind == "haproxy":
            ssl = f" ssl crt {self.pem}" if tls else ""
            self.haproxy(
                "frontend answering",
                "  mode http",
                f"  bind 127.0.0.1:{port} accept-proxy{ssl}",
                "  http-request return status 200 content-type text/plain lf-string "
                '"%[src] %[dst_port] %[fc_pp_authority] %[fc_pp_unique_id]."',
            )
        else:
            ssl = f"ssl_certificate {self.pem}; ssl_certificate_key {self.pem};" if tls else ""
            self.nginx(
                f"server {{ listen 127.0.0.1:{port} proxy_protocol{' ssl' if tls else ''}; {ssl} location / {{ "
                'return 200 "$proxy_protocol_addr $proxy_protocol_server_port  ."; } }'
            )
        waitUntil(lambda: isListened(port), f"{kind} on port {port}")

    def balancing(self, kind: str, upstream: int | Path, how: str, tls: bool = False) -> int:
        """
        Start a balancer in front of the proxy.

        @param kind: C{"haproxy"} or C{"nginx"}.
        @param upstream: The proxy's port, or its Unix socket.
        @param how: How it sends headers, in its own words.
        @param tls: Whether it takes the client's TLS off.
        @return: Its own port.
        """
        port = freePort()
        where = f"127.0.0.1:{upstream}" if isinstance(upstream, int) else f"unix@{upstream}"
        if kind == "haproxy":
            ssl = f" ssl crt {self.pem} ca-file {self.certificates.ca} verify optional" if tls else ""
            self.haproxy(
                "listen balancing",
                "  mode tcp",
                "  unique-id-format id-%[src_port]",
                f"  bind 127.0.0.1:{port}{ssl}",
                f"  server proxy {where} {how}",
            )
        else:
            if not _STREAM.exists():
                requirePeer("nginx-stream")
            config = self.folder / "stream.conf"
            config.write_text(
                f"load_module {_STREAM};\ndaemon off; master_process off; pid {self.folder}/stream.pid; "
                f"error_log stderr notice;\nevents {{ }}\nstream {{ server {{ listen 127.0.0.1:{port}; "
                f"proxy_pass {where}; {how}; }} }}\n"
            )
            Child(self, self.folder, "stream", [requirePeer("nginx"), "-c", str(config), "-e", "stderr"])
        waitUntil(lambda: isListened(port), f"{kind} on port {port}")
        return port

    def come(self, port: int) -> tuple[Talker, str]:
        """
        Have a client connect.

        @return: It, and its address.
        """
        sock = socket.create_connection(("127.0.0.1", port), 20, (CLIENT, 0))
        self.addCleanup(sock.close)
        return Talker(sock), "{}:{}".format(*sock.getsockname())
