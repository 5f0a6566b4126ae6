"""
Tests for L{tlsproxy.testing}.
"""
