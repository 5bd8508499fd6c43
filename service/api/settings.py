"""What the API may touch and how much of it. Read from the environment, LEXISEG_API_ and a field's name in capitals."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from parsers.errors import Code, SettingError
from workers.queue.settings import data_dir


class ApiSettings(BaseSettings):
    """The settings of one API process."""

    model_config = SettingsConfigDict(env_prefix="LEXISEG_API_", frozen=True, extra="forbid")

    roots: str = Field(default="", description=f"folders of pictures that jobs may read, divided by {os.pathsep!r}; "
                                               "uploads are always among them")
    outputs: Path = Field(default_factory=lambda: data_dir() / "outputs", description="the folder of all results")
    uploads: Path = Field(default_factory=lambda: data_dir() / "uploads", description="the folder of all uploads")
    vocabularies: Path = Field(default_factory=lambda: data_dir() / "vocabularies")
    tokens: Path = Field(default_factory=lambda: data_dir() / "tokens.json", description="who may do what; see "
                                                                                         "lexiseg tokens")
    max_pictures: int = Field(default=1_000_000, ge=1, description="of one job")
    max_classes: int = Field(default=2_000, ge=1, description="of one job")
    max_llm_classes: int = Field(default=200, ge=1, description="of one vocabulary that the language model works on; "
                                                                "it is asked at most twice for each")
    max_body: int = Field(default=8 << 20, ge=1024, description="bytes of a request that is no picture")
    max_upload: int = Field(default=256 << 20, ge=1024, description="bytes of one picture")
    max_descriptions: int = Field(default=32 << 20, ge=1024, description="bytes of one file of descriptions")
    max_open_jobs: int = Field(default=200, ge=1, description="jobs that are not over; more are told to come back")
    max_waiting: int = Field(default=64, ge=1, description="requests for one picture now, and progress streams, each")
    head_timeout_s: float = Field(default=20.0, gt=0, description="for the head of a request to arrive")
    body_timeout_s: float = Field(default=60.0, gt=0, description="for a whole body to arrive; pictures get ten times "
                                                                  "as long")
    segment_timeout_s: float = Field(default=60.0, gt=0, description="for one picture now")
    disk_floor: int = Field(default=1 << 30, ge=0, description="bytes that stay free; below, nothing new is accepted")

    @field_validator("outputs", "uploads", "vocabularies", "tokens")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return Path(os.path.abspath(os.path.expanduser(value)))

    @property
    def upload_timeout_s(self) -> float:
        """For the whole body of an upload to arrive."""
        return 10 * self.body_timeout_s

    @property
    def readable(self) -> tuple[Path, ...]:
        """The folders that jobs may read, links resolved."""
        given = [Path(text).expanduser() for text in self.roots.split(os.pathsep) if text.strip()]
        return tuple(Path(os.path.realpath(folder)) for folder in (*given, self.uploads))


def read_api_settings() -> ApiSettings:
    """The settings in the environment. Raises SettingError."""
    try:
        return ApiSettings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        raise SettingError(Code.SETTING_INVALID, f"LEXISEG_API_{name} is {first['input']!r}: {first['msg']}.", "",
                           "Leave it out for the default.") from error
