"""
Tests for L{tlsproxy.commands}.
"""
