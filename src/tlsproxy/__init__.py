# -*- test-case-name: tests -*-
"""
A Twisted framework for proxies that terminate, originate, bridge or pass TLS.
"""

from tlsproxy._version import __version__

__all__ = ["__version__"]
