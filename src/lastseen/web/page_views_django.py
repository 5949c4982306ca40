"""Page views of a Django project, counted on the server.

```python
# project/views_counted.py
views = PageViews(LastSeen.open("postgresql://…"))

class Counted(DjangoPageViewMiddleware):
    views = views

# settings.py
MIDDLEWARE = ["project.views_counted.Counted", ...]
```
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase

from lastseen.errors import ConfigurationError
from lastseen.web.page_views import PageViews, count_wsgi, is_page


class DjangoPageViewMiddleware:
    """Counts page views, see `lastseen.web.page_views`. A subclass names its `views`."""

    sync_capable = True
    async_capable = True
    views: ClassVar[PageViews | None] = None

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        if self.views is None:
            raise ConfigurationError(f"{type(self).__name__} needs its views: a PageViews")
        self._views = self.views
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """Answer one request."""
        if self._is_async:
            return self._answer(request)
        response: HttpResponseBase = self.get_response(request)
        self._count(request, response)
        return response

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await self.get_response(request)
        self._count(request, response)
        return response

    def _count(self, request: HttpRequest, response: HttpResponseBase) -> None:
        if request.method != "GET" or self._views.excludes(request.path_info):
            return
        if is_page(response.status_code, response.headers.get("Content-Type")):
            self._views.count_by(lambda: count_wsgi(self._views, _environ(request)))


def _environ(request: HttpRequest) -> dict[str, Any]:
    """Return the environ: Django makes META for ASGI too, with the names of WSGI but with another path."""
    path = request.path.encode().decode("latin-1")
    return {**request.META, "SCRIPT_NAME": "", "PATH_INFO": path, "wsgi.url_scheme": request.scheme}
