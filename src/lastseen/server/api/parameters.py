"""Which parameters each route of the API reads behind its path, from the types of its handler."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from litestar import Litestar
from litestar.constants import RESERVED_KWARGS
from litestar.di import Provide
from litestar.enums import ParamType
from litestar.handlers import HTTPRouteHandler
from litestar.params import ParameterKwarg
from litestar.routes import HTTPRoute
from litestar.typing import FieldDefinition

QueryNames = dict[tuple[str, str], dict[str, bool]]
"""By path template and method: each name, and whether it is read as text, or as a list of texts."""


def query_names_of(app: Litestar) -> QueryNames:
    """Return what each route reads that the document tells of."""
    return {
        (route.path_format, str(method)): names_of(handler, route.path_parameters)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if handler.resolve_include_in_schema()
        for method in handler.http_methods
    }


def names_of(handler: HTTPRouteHandler, in_path: Collection[str]) -> dict[str, bool]:
    """Return what one handler reads, and what it depends on reads."""
    return dict(_names(handler.parsed_fn_signature.parameters, handler.resolve_dependencies(), in_path))


def _names(
    fields: Mapping[str, FieldDefinition], dependencies: Mapping[str, Provide], in_path: Collection[str]
) -> Iterator[tuple[str, bool]]:
    for name, field in fields.items():
        kind = field.kwarg_definition
        if name in dependencies:
            yield from _names(dependencies[name].parsed_fn_signature.parameters, dependencies, in_path)
        elif name not in RESERVED_KWARGS and name not in in_path:
            if not isinstance(kind, ParameterKwarg):
                yield name, _is_text(field)
            elif kind.param_type is ParamType.QUERY:
                yield kind.name or name, _is_text(field)


def _is_text(field: FieldDefinition) -> bool:
    kinds = field.inner_types if field.is_union else (field,)
    return any(kind.annotation is str or kind.is_non_string_sequence for kind in kinds)
