# -*- test-case-name: tests.status -*-
"""
Where the state of a running proxy is told: by HTTP, for people, for monitoring, and for whoever starts and stops it.
"""
