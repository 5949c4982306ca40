"""The application: the HTTP API, the page, and what keeps them running."""

from lastseen.server.application import create_app
from lastseen.server.running import serve

__all__ = ["create_app", "serve"]
