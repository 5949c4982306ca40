"""The forms that answers have: JSON, and their rows as a file to save."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

import msgspec
from litestar import MediaType, Response
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, Schema
from litestar.params import Parameter
from msgspec import Struct
from msgspec.inspect import BoolType, FloatType, IntType, ListType, NoneType, StructType, Type, UnionType, type_info

from lastseen.reports.export import Cell, Table, table_to_csv
from lastseen.server.api.asking import AnyRequest

CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"
"""https://www.iana.org/assignments/media-types/application/vnd.apache.parquet"""

T = TypeVar("T", bound=Struct)


class Format(StrEnum):
    """How an answer is written."""

    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


FormatParameter = Annotated[Format, Parameter(description="json, or the rows of this page as a file: csv, parquet")]


@dataclass
class ExportOperation(Operation):
    """Tells the other forms that an answer may have."""

    def __post_init__(self) -> None:
        answer = (self.responses or {}).get("200")
        content = getattr(answer, "content", None)
        if content is not None:
            text = Schema(type=OpenAPIType.STRING)
            content[CSV] = OpenAPIMediaType(schema=text)
            content[PARQUET] = OpenAPIMediaType(schema=text)


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """Writes the page of a list in the form that its request asks for."""

    request: AnyRequest
    form: Format

    def __call__(self, page: T) -> Response[T]:
        """Return the page, with a `Link` to the next one; as a file it is the rows of its list of things."""
        headers = self._link(getattr(page, "next_cursor", None))
        if self.form is Format.JSON:
            return Response(page, media_type=MediaType.JSON, headers=headers)
        name, table = rows_of(page)
        return file_of(table, name, self.form, headers)

    def _link(self, cursor: str | None) -> dict[str, str]:
        if cursor is None:
            return {}
        fields = [(name, value) for name, value in self.request.query_params.multi_items() if name != "cursor"]
        return {"link": f'<{self.request.url.path}?{urlencode([*fields, ("cursor", cursor)])}>; rel="next"'}


def provide_export(
    request: AnyRequest,
    format: FormatParameter = Format.JSON,  # noqa: A002 - the name of the parameter
) -> Export:
    """Return what writes an answer as the request wants it."""
    return Export(request=request, form=format)


def file_of(table: Table, name: str, form: Format, headers: dict[str, str] | None = None) -> Response[Any]:
    """Return a table as a file to save."""
    # Only who asks for a file needs the engine that writes it.
    from lastseen.stores.columnar.parquet import to_parquet

    is_csv = form is Format.CSV
    return Response(
        table_to_csv(table).encode() if is_csv else to_parquet(table),
        media_type=CSV if is_csv else PARQUET,
        headers={"content-disposition": f'attachment; filename="{name}.{form}"', **(headers or {})},
    )


def rows_of(page: Struct) -> tuple[str, Table]:
    """Return what the list in a page is called, and a row for each thing in it.

    What is nested has its names joined (`utm_source`); lists and free properties are JSON.
    """
    name, kind = _list_in(type(page))
    columns = list(_columns(kind))
    things = msgspec.to_builtins(getattr(page, name))
    rows = [[_value(thing, path) for path, _ in columns] for thing in things]
    return name, Table(columns={"_".join(path): shown for path, shown in columns}, rows=rows)


@cache
def _list_in(page: type[Struct]) -> tuple[str, StructType]:
    """Return the field of a page that holds a list of things, and what these are."""
    found = type_info(page)
    for field in found.fields if isinstance(found, StructType) else ():
        if isinstance(field.type, ListType) and isinstance(field.type.item_type, StructType):
            return field.name, field.type.item_type
    raise TypeError(f"{page.__name__} holds no list of things")


def _columns(kind: StructType, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], type]]:
    """Yield the path to each value, and what it is."""
    for field in kind.fields:
        path, inner = (*before, field.encode_name), _without_none(field.type)
        if isinstance(inner, StructType):
            yield from _columns(inner, path)
        else:
            yield path, _shown(inner)


def _without_none(kind: Type) -> Type:
    if not isinstance(kind, UnionType):
        return kind
    kinds = [each for each in kind.types if not isinstance(each, NoneType)]
    return kinds[0] if len(kinds) == 1 else kind


def _shown(kind: Type) -> type:
    for each, shown in ((BoolType, bool), (IntType, int), (FloatType, float)):
        if isinstance(kind, each):
            return shown
    return str


def _value(thing: Any, path: tuple[str, ...]) -> Cell:
    for name in path:
        thing = None if thing is None else thing.get(name)
    if isinstance(thing, dict | list):
        return msgspec.json.encode(thing).decode()
    value: Cell = thing
    return value
