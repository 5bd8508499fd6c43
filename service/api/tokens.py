"""Who may do what: a file of names, scopes and sha256 digests of random tokens. A token itself is shown once."""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from parsers.errors import Code, SettingError
from parsers.files import pretty_json, sha256_bytes, write_atomic

Scope = Literal["read", "submit", "admin"]
"""read: look at jobs and results; submit: also start and steer jobs, upload, edit vocabularies; admin: everything,
metrics included. Each holds those before it."""
RANK: dict[str, int] = {"read": 0, "submit": 1, "admin": 2}


class Token(BaseModel):
    """One line of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    scope: Scope
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class TokenFile(BaseModel):
    """All of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    tokens: tuple[Token, ...] = ()


def read_tokens(path: Path) -> tuple[Token, ...]:
    """The tokens of a file; none if there is no file. Raises SettingError."""
    try:
        return TokenFile.model_validate_json(path.read_bytes()).tokens
    except FileNotFoundError:
        return ()
    except (OSError, ValidationError) as error:
        raise SettingError(Code.SETTING_INVALID, f"{path} is no file of tokens: {type(error).__name__}.", "",
                           "Make tokens with: lexiseg tokens add NAME") from error


def add_token(path: Path, name: str, scope: Scope) -> str:
    """Writes a new token's digest into the file, readable by its owner alone, and returns the token.

    Raises SettingError for a name that is taken or has other letters than A-Z a-z 0-9 . _ -.
    """
    known = read_tokens(path)
    if name in {token.name for token in known}:
        raise SettingError(Code.SETTING_INVALID, f"There is a token {name!r} already.", "",
                           f"lexiseg tokens remove {name}")
    secret = secrets.token_urlsafe(32)
    try:
        new = Token(name=name, scope=scope, sha256=sha256_bytes(secret.encode()))
    except ValidationError as error:
        raise SettingError(Code.SETTING_INVALID, f"A token called {name!r} with scope {scope!r}.",
                           f"Letters, digits, dots and dashes; one of: {', '.join(RANK)}.",
                           "lexiseg tokens add --help") from error
    _write(path, (*known, new))
    return secret


def remove_token(path: Path, name: str) -> None:
    """Takes a token out of the file. Raises SettingError if it is not there."""
    known = read_tokens(path)
    left = tuple(token for token in known if token.name != name)
    if len(left) == len(known):
        raise SettingError(Code.SETTING_INVALID, f"There is no token {name!r}.",
                           f"Known: {', '.join(token.name for token in known) or 'none'}.", "lexiseg tokens list")
    _write(path, left)


def _write(path: Path, tokens: tuple[Token, ...]) -> None:
    write_atomic(path, pretty_json(TokenFile(tokens=tokens).model_dump(mode="json")))
    path.chmod(0o600)


def who(secret: str, tokens: tuple[Token, ...]) -> Token | None:
    """Whose token it is. Every digest is compared, and each in constant time."""
    digest = sha256_bytes(secret.encode(errors="surrogateescape"))
    found = None
    for token in tokens:
        if hmac.compare_digest(digest, token.sha256):
            found = token
    return found
