"""compose.yaml as a container engine reads it, and its services as processes of this machine."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
LEXISEG = [sys.executable, "-c", "from service.cli import main; main()"]
_VARIABLE = re.compile(r"\$\{([A-Z_][A-Z0-9_]*)(?:(:[-?])([^}]*))?\}")


def read_compose(variables: Mapping[str, str]) -> dict[str, Any]:
    """The file with its variables filled in. Raises KeyError for one that is needed and not given."""

    def fill(match: re.Match[str]) -> str:
        name, kind, text = match.groups()
        if variables.get(name):
            return variables[name]
        if kind == ":-":
            return text
        raise KeyError(f"{name}: {text}")

    def walk(value: Any) -> Any:
        if isinstance(value, str):
            return _VARIABLE.sub(fill, value)
        if isinstance(value, dict):
            return {key: walk(inside) for key, inside in value.items()}
        return [walk(inside) for inside in value] if isinstance(value, list) else value

    return walk(yaml.safe_load((REPOSITORY / "compose.yaml").read_text(encoding="utf-8")))


def image_of_program() -> tuple[list[str], dict[str, str]]:
    """Entry point and environment of the Dockerfile's last stage."""
    text = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8").rsplit("\nFROM ", 1)[1].replace("\\\n", " ")
    entry = json.loads(re.findall(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)[0])
    pairs = [pair for line in re.findall(r"^ENV (.*)$", text, re.MULTILINE) for pair in shlex.split(line)]
    return entry, {name: value for name, _, value in (pair.partition("=") for pair in pairs) if name != "PATH"}


class Native:
    """Services of the file as commands of this machine. swaps: what a text of the file is here."""

    def __init__(self, document: dict[str, Any], swaps: Mapping[str, str], programs: Mapping[str, list[str]]) -> None:
        self._services, self._swaps, self._programs = document["services"], swaps, programs

    def swapped(self, text: str) -> str:
        pattern = "|".join(map(re.escape, sorted(self._swaps, key=len, reverse=True)))
        return re.sub(pattern, lambda match: self._swaps[match[0]], text)

    def arguments(self, service: str) -> list[str]:
        """The command line: entry point and command."""
        found = self._services[service]
        entry = found.get("entrypoint") or (image_of_program()[0] if _is_ours(found) else [])
        command = found["command"]
        return self._here([*entry, *(shlex.split(command) if isinstance(command, str) else command)])

    def check(self, service: str) -> list[str]:
        """The command line of the health check."""
        kind, *command = self._services[service]["healthcheck"]["test"]
        assert kind == "CMD"
        return self._here(command)

    def environment(self, service: str) -> dict[str, str]:
        """All of it: nothing of the caller's but where commands and libraries are."""
        found = self._services[service]
        base = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
        base |= {"PYTHONPATH": str(REPOSITORY)} if _is_ours(found) else {}
        ours = image_of_program()[1] if _is_ours(found) else {}
        given = {name: str(value) for name, value in {**ours, **found.get("environment", {})}.items()}
        return base | {name: self.swapped(value) for name, value in given.items()}

    def grace(self, service: str) -> float:
        """Seconds between the signal to stop and the end."""
        return float(self._services[service]["stop_grace_period"].removesuffix("s"))

    def stop_signal(self, service: str) -> str:
        """The name of the signal that asks it to stop."""
        return str(self._services[service].get("stop_signal", "SIGTERM"))

    def _here(self, command: list[str]) -> list[str]:
        program, *rest = command
        return [*self._programs.get(program, [program]), *map(self.swapped, rest)]


def _is_ours(service: Mapping[str, Any]) -> bool:
    return "lexiseg@sha256" in service["image"]
