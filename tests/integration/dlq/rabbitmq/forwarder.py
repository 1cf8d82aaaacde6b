"""Connections to a broker that are lost at a chosen moment."""

from __future__ import annotations

import contextlib
import socket
import threading


class Forwarder:
    """Forwards connections to a port of 127.0.0.1.

    With `loses_requests`, a connection is closed instead of forwarding what the client sends next; with
    `loses_answers`, instead of forwarding what the server sends next.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.loses_requests = self.loses_answers = False
        self._servers: list[socket.socket] = []
        self._unnoticed: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def end_unnoticed(self) -> None:
        """End the server's side of all connections; the client notices when it sends something."""
        self._unnoticed += self._servers
        for server in self._servers:
            server.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._servers.append(server)
                for pair in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._forward, args=pair, daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, is_request: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if self.loses_requests if is_request else self.loses_answers:
                    break
                target.sendall(data)
        for end in (source, target) if is_request or source not in self._unnoticed else ():
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
