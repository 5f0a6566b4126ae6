"""
Tests for L{tlsproxy.wire}.
"""
