"""Login sessions in web applications: one set of decisions, and a thin adapter for each way to speak to a framework."""

from lastseen.web.sessions.options import WebSessions
from lastseen.web.sessions.refusal import Refusal, RequestRefused
from lastseen.web.sessions.request import RequestSession

__all__ = ["Refusal", "RequestRefused", "RequestSession", "WebSessions"]
