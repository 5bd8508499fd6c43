"""The pictures of a job over HTTP: what became of each, its mask and its other files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field
from sqlalchemy import Row, select

from parsers.errors import Code
from parsers.prepared import PreparedRow
from service.api.errors import ApiError, responses
from service.api.jobs import JobId
from service.api.site import Reader, Site
from workers.ledger.schema import items, results
from workers.records import Result

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["pictures"])
ItemName = Annotated[str, Query(min_length=1, max_length=4096, description="the name of a picture in the job",
                                examples=["a/b.jpg"])]
ItemStateName = Literal["queued", "running", "done", "done-empty", "failed", "quarantined", "cancelled"]
FILES = {"mask": "masks/{}.png", "overlay": "overlays/{}.jpg", "confidence": "confidence/{}.png"}


_ROWS = (select(items.c.name, items.c.state, items.c.attempts, items.c.code, items.c.told, results.c.line)
         .join(results, results.c.item_id == items.c.id, isouter=True))


class Item(BaseModel):
    """One picture of a job."""

    name: str
    state: ItemStateName
    attempts: int
    code: str | None = Field(default=None, description="the reason of a failure")
    result: Result | None = Field(default=None, description="its line of results.jsonl, when it has one")
    told: PreparedRow | None = Field(default=None, description="in a job without candidates: what is said of it, as "
                                     "long as its result does not tell")


class ItemPage(BaseModel):
    """Pictures in the order of their names."""

    format_version: int = 1
    items: list[Item]
    next: str | None = Field(description="give it as `after` for the next page; null at the end")


@router.get("/items", responses=responses(404))
def list_items(site: Reader, job_id: JobId, state: ItemStateName | None = None,
               code: Annotated[str | None, Query(max_length=32)] = None,
               prefix: Annotated[str, Query(max_length=4096, description="of the name, such as a folder")] = "",
               after: Annotated[str, Query(max_length=4096)] = "",
               limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> ItemPage:
    """The pictures of a job, filtered, page by page."""
    site.job(job_id)
    query = (_ROWS.where(items.c.job_id == job_id, items.c.name > after).order_by(items.c.name).limit(limit + 1))
    if state is not None:
        query = query.where(items.c.state == state)
    if code is not None:
        query = query.where(items.c.code == code)
    if prefix:
        query = query.where(items.c.name.startswith(prefix, autoescape=True))
    if "\0" in f"{after}{prefix}{code}":
        return ItemPage(items=[], next=None)
    with site.ledger.read() as connection:
        rows = connection.execute(query).all()
    found = [_item(row) for row in rows[:limit]]
    return ItemPage(items=found, next=found[-1].name if len(rows) > limit else None)


@router.get("/item", responses=responses(404))
def show_item(site: Reader, job_id: JobId, name: ItemName) -> Item:
    """One picture: its state, and what was found, said and read in it."""
    return _item(_row(site, job_id, name))


@router.get("/files/{kind}", response_class=FileResponse, responses=responses(404))
def item_file(site: Reader, job_id: JobId, kind: Literal["mask", "overlay", "confidence"],
              name: ItemName) -> FileResponse:
    """The mask of a picture, or its overlay or confidence where the job writes them."""
    row = _row(site, job_id, name)
    path = Path(site.job(job_id).out, FILES[kind].format(row.name))
    if row.line is None or not path.is_file():
        raise ApiError(404, Code.FILE_MISSING, f"There is no {kind} of {name[:200]!r}: it is {row.state}.",
                       "Overlays and confidences are written on request, when a job is submitted.")
    return FileResponse(path, media_type="image/jpeg" if kind == "overlay" else "image/png",
                        headers={"X-Content-Type-Options": "nosniff"})


def _item(row: Row[Any]) -> Item:
    result = None if row.line is None else Result.model_validate_json(row.line)
    is_told = row.told and (result is None or result.told is None)
    return Item(name=row.name, state=row.state, attempts=row.attempts, code=row.code, result=result,
                told=PreparedRow.model_validate_json(row.told) if is_told else None)


def _row(site: Site, job_id: str, name: str) -> Row[Any]:
    site.job(job_id)
    if "\0" not in name:
        with site.ledger.read() as connection:
            row = connection.execute(_ROWS.where(items.c.job_id == job_id, items.c.name == name)).one_or_none()
        if row is not None:
            return row
    raise ApiError(404, Code.FILE_MISSING, f"The job {job_id} has no picture {name[:200]!r}.",
                   f"GET /v1/jobs/{job_id}/items lists all.")
