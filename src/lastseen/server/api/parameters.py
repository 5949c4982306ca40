"""Which parameters each route reads behind its path, and what they may be, from the types of its handler."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from litestar import Litestar
from litestar.constants import RESERVED_KWARGS
from litestar.di import Provide
from litestar.enums import ParamType
from litestar.handlers import HTTPRouteHandler
from litestar.params import ParameterKwarg
from litestar.routes import HTTPRoute
from litestar.typing import FieldDefinition


@dataclass(frozen=True, slots=True)
class Query:
    """One parameter. `choices` are all that it may be; empty: the handler says."""

    is_text: bool
    """Or a list of texts."""
    choices: tuple[str, ...] = ()


QueryNames = dict[tuple[str, str], dict[str, Query]]
"""By path template and method."""


def query_names_of(app: Litestar, *, described: bool = True) -> QueryNames:
    """Return what each route reads that the document tells of, or each of those that it does not tell of: the pages."""
    return {
        (route.path_format, str(method)): names_of(handler, route.path_parameters)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if handler.resolve_include_in_schema() is described
        for method in handler.http_methods
    }


def names_of(handler: HTTPRouteHandler, in_path: Collection[str]) -> dict[str, Query]:
    """Return what one handler reads, and what it depends on reads."""
    return dict(_names(handler.parsed_fn_signature.parameters, handler.resolve_dependencies(), in_path))


def _names(
    fields: Mapping[str, FieldDefinition], dependencies: Mapping[str, Provide], in_path: Collection[str]
) -> Iterator[tuple[str, Query]]:
    for name, field in fields.items():
        kind = field.kwarg_definition
        if name in dependencies:
            yield from _names(dependencies[name].parsed_fn_signature.parameters, dependencies, in_path)
        elif name not in RESERVED_KWARGS and name not in in_path:
            if not isinstance(kind, ParameterKwarg):
                yield name, _query(field)
            elif kind.param_type is ParamType.QUERY:
                yield kind.name or name, _query(field)


def _query(field: FieldDefinition) -> Query:
    kinds = [kind for kind in (field.inner_types if field.is_union else (field,)) if not kind.is_none_type]
    is_text = any(kind.annotation is str or kind.is_non_string_sequence for kind in kinds)
    kind = kinds[0].annotation if len(kinds) == 1 else None
    choices = kind if isinstance(kind, type) and issubclass(kind, Enum) else ()
    return Query(is_text, tuple(str(choice.value) for choice in choices))
