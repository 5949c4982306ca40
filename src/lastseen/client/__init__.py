"""A typed client for the HTTP API. Each operation is described once; a client sends what is described.

```python
with Client("https://seen.example.org", api_key="ls_…") as client:
    page = client.send(devices.list(group_id="shop"))
```

The same with `AsyncClient` and `await`. Needs httpx: `pip install 'lastseen[client]'`.
"""

from lastseen.client import activity, clients, devices, groups, keys, reports, sessions, sites, visits
from lastseen.client.call import ApiError, Call
from lastseen.client.transport import AsyncClient, Client

__all__ = [
    "ApiError",
    "AsyncClient",
    "Call",
    "Client",
    "activity",
    "clients",
    "devices",
    "groups",
    "keys",
    "reports",
    "sessions",
    "sites",
    "visits",
]
