# -*- test-case-name: tests.test_selfconnection -*-
"""
L{tlsproxy.selfconnection}: a connection of ours with ourselves, and with nobody else.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet import error
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.errors import HandshakeFailed, SessionError
from tlsproxy.selfconnection import Door, meet
from tlsproxy.testing.socketreactor import SocketReactor


class DoorTests(SynchronousTestCase):
    """
    L{meet} and L{Door}
    """

    def setUp(self) -> None:
        """
        Note the descriptors.
        """
        self.before = len(os.listdir("/dev/fd"))
        self.reactor = SocketReactor()
        self.came: list[Any] = []

    def door(self, listening: socket.socket, mine: socket.socket) -> Door:
        """
        Open a door for a socket of ours.
        """
        self.addCleanup(mine.close)
        door = Door(self.reactor, listening, mine.getsockname(), self.came.append)
        door.open()
        return door

    def assertClosed(self, *others: socket.socket) -> None:
        """
        Nothing is left.
        """
        for one in others:
            one.close()
        self.reactor.advance(0)
        self.assertEqual([], [*self.reactor.getReaders(), *self.reactor.getDelayedCalls()])
        self.assertEqual(self.before, len(os.listdir("/dev/fd")))

    def test_ourselves(self) -> None:
        """
        We are let in, at once, and the door is closed.
        """
        listening, mine = meet()
        address = listening.getsockname()
        self.door(listening, mine)
        (theirs,) = self.came
        mine.send(b"hello")
        self.assertEqual(b"hello", theirs.recv(10))
        self.assertRaises(OSError, socket.create_connection, address)
        self.assertEqual("127.0.0.1", address[0])
        self.assertClosed(mine, theirs)

    def test_late(self) -> None:
        """
        If we are late, the door waits.
        """
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        mine = socket.socket()
        mine.bind(("127.0.0.1", 0))
        self.door(listening, mine)
        self.reactor.pump()
        self.assertEqual([], self.came)
        mine.connect(listening.getsockname())
        self.reactor.pump()
        (theirs,) = self.came
        self.assertClosed(mine, theirs)

    def test_intruder(self) -> None:
        """
        Whoever comes from another port is not let in, and nobody is any more.
        """
        connected: list[socket.socket] = []

        class Robbed(socket.socket):
            def listen(self, backlog: int = 0) -> None:
                super().listen(backlog)
                listening = self.getsockname()
                intruder = RealSocket()
                intruder.connect(listening)
                connected.append(intruder)

        RealSocket = socket.socket
        self.patch(socket, "socket", Robbed)
        listening, mine = meet()
        self.patch(socket, "socket", RealSocket)
        self.door(listening, mine)
        (problem,) = self.came
        self.assertIsInstance(problem, HandshakeFailed)
        self.assertIn("somebody else on this machine", str(problem))
        self.assertClosed(mine, *connected)

    def test_closed(self) -> None:
        """
        A door that is closed calls nobody.
        """
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        mine = socket.socket()
        mine.bind(("127.0.0.1", 0))
        door = self.door(listening, mine)
        door.close()
        door.close()
        door.doRead()
        self.assertEqual([], self.came)
        self.assertClosed(mine)

    def test_lost(self) -> None:
        """
        A listening socket that is found dead is told of.
        """
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        mine = socket.socket()
        mine.bind(("127.0.0.1", 0))
        door = self.door(listening, mine)
        door.connectionLost(Failure(error.ConnectionLost()))
        self.assertIsInstance(self.came[0], SessionError)
        self.assertClosed(mine)

    def test_noDescriptor(self) -> None:
        """
        Where there is no descriptor, that is told in a sentence, and nothing is left.
        """
        for lacking in range(2):
            made: list[socket.socket] = []

            class Few(socket.socket):
                def __init__(self, *args: Any) -> None:
                    if len(made) == lacking:  # noqa: B023
                        raise OSError(24, "Too many open files")
                    made.append(self)  # noqa: B023
                    super().__init__(*args)

            real = socket.socket
            self.patch(socket, "socket", Few)
            problem = self.assertRaises(SessionError, meet)
            self.patch(socket, "socket", real)
            self.assertEqual("TLS cannot be given a connection on 127.0.0.1: Too many open files", str(problem))
            made.clear()
            self.assertClosed()
