"""
Tests for L{tlsproxy.logs}.
"""
