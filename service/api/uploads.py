"""Pictures that people send: PUT the bytes, then name the folder among a job's inputs. And files of descriptions of
them, for jobs without candidates."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path as FilePath
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from parsers.errors import Code
from parsers.files import output_error
from parsers.prepared import PreparedPriors
from service.api.errors import ApiError, responses
from service.api.free import too_large
from service.api.site import Reader, Site, Submitter
from vision.images import IMAGE_SUFFIXES, is_picture

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])
Folder = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$", examples=["ward-7"])]
FileName = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", examples=["0001.jpg"])]
DESCRIPTIONS = ".jsonl"
BYTES = {"requestBody": {"required": True, "content": {"application/octet-stream": {
    "schema": {"type": "string", "format": "binary"}}}}}


class Upload(BaseModel):
    """One file that arrived."""

    format_version: int = 1
    folder: str = Field(description="to be named among a job's inputs")
    name: str = Field(description="FOLDER/NAME of a file of descriptions is for `free` of a job")
    bytes: int


class UploadFolder(BaseModel):
    """What lies in a folder of uploads."""

    format_version: int = 1
    folder: str
    names: list[str]


async def receive_picture(request: Request, target: FilePath) -> int:
    """Streams a body to a file that appears whole or not at all; bytes written. Raises ApiError (415), OutputError.

    What begins like no picture is refused at its first bytes, whatever it calls itself; the decoder finds the rest.
    """
    def check(start: bytes) -> None:
        if not is_picture(start):
            raise _no_picture(target.name)

    return await _receive(request, target, check_start=check)


async def receive_descriptions(site: Site, request: Request, target: FilePath) -> int:
    """The same for descriptions, all of which must be readable. Raises ApiError (413, 429), DatasetError,
    OutputError."""
    def check(path: FilePath) -> None:
        with site.alone(), path.open(encoding="utf-8") as file:
            PreparedPriors.parse(file, f"{target.parent.name}/{target.name}")

    return await _receive(request, target, check_whole=check, limit=site.settings.max_descriptions,
                          too_large=too_large(site))


async def _receive(request: Request, target: FilePath, *, check_start: Callable[[bytes], None] = lambda start: None,
                   check_whole: Callable[[FilePath], None] = lambda path: None, limit: float = math.inf,
                   too_large: ApiError | None = None) -> int:
    handle, taken, start = None, 0, b""
    temporary = ""
    try:
        await run_in_threadpool(target.parent.mkdir, parents=True, exist_ok=True)
        handle, temporary = await run_in_threadpool(tempfile.mkstemp, dir=target.parent, prefix=".", suffix=".part")
        async for chunk in request.stream():
            if len(start) < 16:
                start = (start + chunk)[:16]
                if len(start) == 16:
                    check_start(start)
            taken += len(chunk)
            if too_large is not None and taken > limit:
                raise too_large
            await run_in_threadpool(_write_all, handle, chunk)
        check_start(start)
        await run_in_threadpool(check_whole, FilePath(temporary))
        await run_in_threadpool(os.fsync, handle)
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
        temporary = ""
    except OSError as error:
        raise output_error(target, error) from error
    finally:
        if handle is not None:
            os.close(handle)
        if temporary:
            FilePath(temporary).unlink(missing_ok=True)
    return taken


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view):]


def _no_picture(name: str) -> ApiError:
    return ApiError(415, Code.NOT_AN_IMAGE, f"{name} is not a picture that can be read here.",
                    "Send JPEG, PNG, WebP, BMP, TIFF or still GIF.")


@router.put("/{folder}/{name}", status_code=201, openapi_extra=BYTES, responses=responses(408, 413, 415, 507))
async def put_file(site: Submitter, request: Request, folder: Folder, name: FileName) -> Upload:
    """Send one picture, or a file of descriptions (NAME.jsonl): its bytes are the body. The same name again replaces
    it."""
    await run_in_threadpool(site.check_room)
    target = site.settings.uploads / folder / name
    if target.suffix == DESCRIPTIONS:
        return Upload(folder=folder, name=name, bytes=await receive_descriptions(site, request, target))
    if FilePath(name).suffix.lower() not in IMAGE_SUFFIXES:
        raise ApiError(415, Code.NOT_AN_IMAGE, f"{name!r} does not end like the name of a picture.",
                       f"One of: {' '.join(sorted(IMAGE_SUFFIXES))}; or {DESCRIPTIONS} for descriptions.")
    return Upload(folder=folder, name=name, bytes=await receive_picture(request, target))


@router.get("/{folder}", responses=responses(404))
def list_uploads(site: Reader, folder: Folder) -> UploadFolder:
    """What arrived in a folder."""
    path = site.settings.uploads / folder
    if not path.is_dir():
        raise ApiError(404, Code.FILE_MISSING, f"Nothing was uploaded as {folder!r}.", "PUT /v1/uploads/FOLDER/NAME")
    return UploadFolder(folder=folder, names=sorted(entry.name for entry in path.iterdir()
                                                    if not entry.name.startswith(".")))
