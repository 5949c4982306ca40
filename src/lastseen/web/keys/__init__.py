"""API keys in web applications: one set of decisions, and a thin adapter for each way to speak to a framework."""

from lastseen.web.keys.gate import DEFAULT_DEVICE, KeyOptions, RequestKey

__all__ = ["DEFAULT_DEVICE", "KeyOptions", "RequestKey"]
