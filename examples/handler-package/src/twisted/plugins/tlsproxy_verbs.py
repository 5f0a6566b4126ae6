"""
Registers the handler.
"""

from tlsproxy.plugin import HandlerFactory

verbs = HandlerFactory("verbs", "tlsproxy_verbs.Verbs", "lets only some commands of the client through")
