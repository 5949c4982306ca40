"""Login sessions as FastAPI dependencies, beside the middleware and the functions of `lastseen.web.sessions.asgi`.

```python
app.add_middleware(SessionMiddleware, sessions=sessions)

@app.get("/account")
async def account(session: RequiredSession) -> str: ...

@app.post("/account/delete", dependencies=[recent_session(timedelta(minutes=10))])
async def delete() -> None: ...
```
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import HTTPConnection

from lastseen.sessions.session import Session
from lastseen.web.sessions import asgi


# Coroutines, because FastAPI runs plain functions in a thread.
async def current_session(request: HTTPConnection) -> Session | None:
    """Return the valid session of the request, or None."""
    return asgi.current_session(request)


async def require_session(request: HTTPConnection) -> Session:
    """Return the session, or end the request: browsers go to the login page, others get 401."""
    return asgi.require_session(request)


CurrentSession = Annotated[Session | None, Depends(current_session)]
"""The valid session of the request, or None."""

RequiredSession = Annotated[Session, Depends(require_session)]
"""The session; without one the request ends: browsers go to the login page, others get 401."""


def recent_session(max_age: timedelta) -> Any:
    """Return a dependency: the session of a user who proved who they are within the span, else 403."""

    async def require_recent(request: HTTPConnection) -> Session:
        return await asgi.require_recent(request, max_age)

    return Depends(require_recent)
