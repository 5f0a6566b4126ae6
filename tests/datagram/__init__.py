"""
Tests for L{tlsproxy.datagram}.
"""
