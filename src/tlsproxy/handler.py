# -*- test-case-name: tests.test_handler -*-
"""
What the author of a protocol handler starts from.

A handler is three things: a class of options (L{HandlerOptions}), whose instance is the handler as a route has it; a
class of handlers (L{ProtocolHandler}), of which each session gets one; and, for the command line and configuration
files to find it by its name, one L{HandlerFactory} in a module of C{twisted.plugins}, which imports it from
L{tlsproxy.plugin}, so that other commands of C{twistd} start no later.
"""

from __future__ import annotations

from typing import Any, Self

from attrs import frozen
from zope.interface import implementer

from tlsproxy.flow import Flow
from tlsproxy.given import whyNoOptions
from tlsproxy.interfaces import (
    FAR,
    INWARD,
    NEAR,
    OUTWARD,
    IHandlerOptions,
    IProtocolHandler,
    Way,
)
from tlsproxy.plugin import HandlerFactory
from tlsproxy.session import Session
from tlsproxy.side import Side
from tlsproxy.tls.policy import option

__all__ = [
    "FAR",
    "INWARD",
    "NEAR",
    "OUTWARD",
    "Flow",
    "HandlerFactory",
    "HandlerOptions",
    "ProtocolHandler",
    "Session",
    "Side",
    "Way",
    "option",
]


@implementer(IProtocolHandler)
class ProtocolHandler:
    """
    A handler that lets everything pass.

    @ivar session: The session that it serves.
    @ivar flow: By what it acts on the bytes.
    """

    # A subclass that needs more may have it without a word; one that needs none is small.
    __slots__ = ("__weakref__", "flow", "session")

    def __init__(self, session: Session, flow: Flow) -> None:
        self.session = session
        self.flow = flow

    async def negotiate(self, near: Side, far: Side) -> None:
        """
        See L{IProtocolHandler}.
        """

    def received(self, direction: Way, data: bytes) -> bytes | None:
        """
        See L{IProtocolHandler}.
        """
        return data

    def ended(self, direction: Way, how: str) -> None:
        """
        See L{IProtocolHandler}.
        """

    def closed(self, outcome: str) -> None:
        """
        See L{IProtocolHandler}.
        """


@implementer(IHandlerOptions)
@frozen(kw_only=True)
class HandlerOptions:
    """
    The options of a handler: to be subclassed by a class with C{@attrs.frozen(kw_only=True)}, each of whose attributes
    is made by L{option}.

    The type of an attribute says what it takes: C{str}, C{int}, C{float}, C{bool}, C{tuple[str, ...]} or
    C{pathlib.Path}; a path is taken from the folder of the configuration file.  A converter or validator of the
    attribute, or the class itself, may raise L{ValueError} with a sentence on what is wrong.
    """

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        """
        @raise TypeError: The class has options, and lacks its decorator, so that they would go unheeded.
        """
        why = whyNoOptions(cls)
        if why:
            raise TypeError(why)
        return super().__new__(cls)

    @property
    def name(self) -> str:
        """
        What it is called in messages: that of the class, where it says nothing else.
        """
        return type(self).__name__

    @property
    def startsTLS(self) -> frozenset[str]:
        """
        The sides on which the handler starts the TLS that the mode has there: L{NEAR}, L{FAR}, both, or none.
        """
        return frozenset()

    @property
    def serverFirst(self) -> bool:
        """
        Whether the upstream is dialed before the client has been admitted, because it speaks first.
        """
        return False

    @property
    def datagrams(self) -> bool:
        """
        Whether the handler understands datagrams: each call has one, and its boundaries are kept.
        """
        return False

    @property
    def mostHeld(self) -> int:
        """
        The most bytes that the handler may hold in one direction; a session in which it holds more is ended.
        """
        return 1 << 20

    def handler(self, session: Session, flow: Flow) -> ProtocolHandler:
        """
        Make the handler of one session.
        """
        raise NotImplementedError(f"{type(self).__name__} makes no handler: it lacks the method handler(session, flow)")
