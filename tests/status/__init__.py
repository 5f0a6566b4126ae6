"""
Tests of L{tlsproxy.status}.
"""
