"""
Tests for L{tlsproxy.handlers}.
"""
