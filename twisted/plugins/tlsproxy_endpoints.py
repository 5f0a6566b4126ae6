# -*- test-case-name: tests.test_endpointstrings -*-
"""
Tells every Twisted program of the endpoint strings that start with C{tlsproxy:}.
"""

from tlsproxy.endpointstrings import RouteEndpointParser

tlsproxy = RouteEndpointParser()
