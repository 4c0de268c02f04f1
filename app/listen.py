"""The socket of an HTTP process, bound before anything else is opened: a taken port is one line, and nothing is half started."""

import socket

BACKLOG = 2048


class PortProblem(Exception):
    """Nothing can listen there. The message is one line that names the address and its settings."""


def listen(host: str, port: int, part: str) -> socket.socket:
    """A socket that listens; `part` (API, DASHBOARD) is how the settings' names begin. Raises PortProblem.

    It listens now, not when the server starts: two processes may bind the same port, one of them can listen.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        why = (error.strerror or str(error)).partition(" (while")[0]
        raise PortProblem(f"cannot listen on {host} port {port} (settings {part}_HOST, {part}_PORT): {why}") from None
