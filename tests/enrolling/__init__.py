"""
Tests for L{tlsproxy.enrolling}.
"""
