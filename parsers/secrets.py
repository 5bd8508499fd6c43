"""Addresses and texts without what only their owner may read."""

from __future__ import annotations

import re

_SECRETS = re.compile(r"(?i)(bearer\s+)[^\s@\"']+|(://[^/@\s:\"']*:)[^\s\"]*(?=@)|([?&](?:password|passwd)=)[^&\s\"']+")


def without_secrets(text: str) -> str:
    """The text with passwords in addresses and bearer tokens blotted out."""
    return _SECRETS.sub(r"\1\2\3***", text)


def address(url: str) -> str:
    """An address, or several with semicolons between them, as everybody may read it: without user and password, and
    without what follows a question mark, where a password may be, too. A path stays as it is."""
    if "://" not in url or url.startswith("sqlite:"):
        return url
    return ";".join(re.sub(r"://.*@", "://", one).split("?")[0] for one in url.split(";"))
