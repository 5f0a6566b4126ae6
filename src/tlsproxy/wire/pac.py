# -*- test-case-name: tests.wire.test_pac -*-
"""
The file that tells a browser which requests to send through the proxy: proxy auto-config, JavaScript with one function.
"""

from __future__ import annotations

from tlsproxy.wire.connect import parseAuthority

__all__ = ["PAC_TYPE", "pacFile"]

PAC_TYPE = "application/x-ns-proxy-autoconfig"
"""
The content type that browsers want of such a file.
"""

# Browsers differ in whether an IPv6 host comes with its brackets.  There is no second choice after the proxy: without
# the tunnel the browser shall say so, and not go around it.
_TEXT = """\
function FindProxyForURL(url, host) {
    var scheme = url.substring(0, url.indexOf(":")).toLowerCase();
    if (scheme !== "https" && scheme !== "wss") {
        return "DIRECT";
    }
    if (/^((.+\\.)?localhost|127\\.\\d{1,3}\\.\\d{1,3}\\.\\d{1,3}|::1|\\[::1\\])$/i.test(host)) {
        return "DIRECT";
    }
    return "%s %s";
}"""


def pacFile(authority: str, secure: bool) -> str:
    """
    Write the file for a proxy that makes tunnels: what is encrypted end to end goes through it, and all else, and what
    the browser asks of its own machine, goes direct.

    @param authority: The proxy as the browser named it in the Host field: C{host}, C{host:port}, C{[v6]} or
        C{[v6]:port}.  The port left out is 443, or 80 without TLS.
    @param secure: Whether the browser has to speak TLS to the proxy.
    @return: The file's text, without a newline at its end.
    @raise ValueError: The authority is something else, and so has no place in a script.
    """
    host, port = parseAuthority(authority, "the proxy's own address")
    if port is None:
        port = 443 if secure else 80
    return _TEXT % ("HTTPS" if secure else "PROXY", f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
