"""How a framework is spoken to: ASGI, WSGI and Django, each a thin adapter around one engine."""
