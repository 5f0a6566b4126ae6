"""
Tests for L{tlsproxy.patterns}.
"""
