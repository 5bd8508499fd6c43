"""Every failure leaves the API as one shape: a reason code, what was given, what is allowed, the next step."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from parsers.errors import Code, LexisegError

log = logging.getLogger("lexiseg.api")

STATUS: dict[str, int] = {
    Code.JOB_MISSING: 404, Code.FILE_MISSING: 404, Code.MODEL_MISSING: 404, Code.JOB_STATE: 409,
    Code.OUTPUT_COLLISION: 409, Code.VOCABULARY_CONFLICT: 409, Code.DISK_FULL: 507, Code.LEDGER_UNAVAILABLE: 503,
    Code.BROKER_UNAVAILABLE: 503, Code.PACKAGE_MISSING: 501, Code.INTERNAL: 500, Code.IMAGE_TOO_LARGE: 413,
    Code.NOT_AN_IMAGE: 415, Code.LLM_UNAVAILABLE: 503, Code.LLM_MODEL_MISSING: 503, Code.LLM_PROTOCOL: 502,
    Code.LLM_REFUSED: 502, Code.STORE_UNAVAILABLE: 503, Code.CLOCK_SKEW: 503,
}
"""HTTP status by reason code; 422 for all others: what was given cannot be used."""
RETRY_AFTER_S = {429: "30", 503: "10", 507: "300"}


class Failure(BaseModel):
    """Why a request failed."""

    code: str = Field(description="a stable reason; docs/reasons.md lists all", examples=["job-missing"])
    message: str = Field(description="what was given and what is allowed")
    next_step: str | None = Field(default=None, description="what to do about it")


class FailureAnswer(BaseModel):
    """The body of every answer that is not a success."""

    format_version: int = 1
    error: Failure


class ApiError(Exception):
    """A failure that only the API knows, such as a missing token."""

    def __init__(self, status: int, code: str, message: str, next_step: str | None = None) -> None:
        super().__init__(message)
        self.status, self.failure = status, Failure(code=code, message=message, next_step=next_step)


def answer(status: int, failure: Failure) -> JSONResponse:
    headers = {"Retry-After": RETRY_AFTER_S[status]} if status in RETRY_AFTER_S else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(FailureAnswer(error=failure).model_dump(), status, headers)


def add_handlers(app: FastAPI) -> None:
    """Turns exceptions into answers."""

    @app.exception_handler(LexisegError)
    def on_known(_request: Request, error: LexisegError) -> JSONResponse:
        message = " ".join(part for part in (error.given, error.allowed) if part)
        return answer(STATUS.get(error.code, 422),
                      Failure(code=error.code, message=message, next_step=error.next_step or None))

    @app.exception_handler(ApiError)
    def on_api(_request: Request, error: ApiError) -> JSONResponse:
        return answer(error.status, error.failure)

    @app.exception_handler(RequestValidationError)
    def on_invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return answer(422, Failure(code=Code.SETTING_INVALID, message=f"{place}: {first['msg']}",
                                   next_step="GET /openapi.json describes every field."))

    @app.exception_handler(HTTPException)
    def on_http(_request: Request, error: HTTPException) -> JSONResponse:
        response = answer(error.status_code, Failure(code="http", message=str(error.detail),
                                                     next_step="GET /openapi.json describes every route."))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    def on_defect(_request: Request, error: Exception) -> JSONResponse:
        log.error("defect", exc_info=error)
        return answer(500, Failure(code=Code.INTERNAL, message="Unexpected; the log of the API has the details.",
                                   next_step="Report it with the log."))


def responses(*statuses: int, content: str | None = None) -> dict[int | str, dict[str, Any]]:
    """For the description of a route: these, and what every route may answer. content: of a success that is no JSON."""
    success: dict[int | str, dict[str, Any]] = {} if content is None else {200: {"content": {content: {}}}}
    return success | {status: {"model": FailureAnswer} for status in (400, 401, 403, 422, 429, 503, *statuses)}
