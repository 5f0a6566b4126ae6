"""
Tests for L{tlsproxy.tls}.
"""
