"""`python -m agents.serving MODEL`: serves a model directory on this machine's processor until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

from agents.serving.server import DTYPES, ServerSettings, running
from parsers.errors import LexisegError


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 after Ctrl-C, 2 where what was given cannot be served."""
    parser = argparse.ArgumentParser(prog="python -m agents.serving", description=__doc__)
    parser.add_argument("model", type=Path, metavar="MODEL", help="a directory of LLaVA-Phi2")
    parser.add_argument("--environment", type=Path, default=Path(".venv-vllm"), metavar="DIR",
                        help="what make vllm made (default: %(default)s)")
    parser.add_argument("--name", help="what clients call the model (default: the directory's name)")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="(default: %(default)s)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="(default: %(default)s)")
    parser.add_argument("--context", type=int, metavar="TOKENS",
                        help="prompt, picture and answer together (default: as many as the model takes)")
    parser.add_argument("--streams", type=int, default=16, metavar="N", help="requests worked on at once; more wait "
                        "(default: %(default)s)")
    parser.add_argument("--cache-mib", type=int, default=128, metavar="MIB",
                        help="memory for keys and values (default: %(default)s)")
    parser.add_argument("--patience", type=float, default=180, metavar="SECONDS",
                        help="until it has to be ready (default: %(default)s)")
    parser.add_argument("--log", type=Path, metavar="FILE", help="where vLLM's own words go (default: a new file)")
    parser.add_argument("--cache", type=Path, metavar="DIR", default=default_cache(),
                        help="what makes the next start quicker (default: %(default)s)")
    options = vars(parser.parse_args(arguments))
    log = options.pop("log") or Path(tempfile.mkdtemp(prefix="lexiseg-vllm-")) / "vllm.log"
    patience, cache = options.pop("patience"), options.pop("cache")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        settings = ServerSettings(**options)
        print(f"Starting vLLM; its log is {log}", file=sys.stderr)
        with running(settings, log, cache, patience) as server:
            print(f"Ready: {settings.url}, model {settings.served_name}. Ctrl-C stops it.", file=sys.stderr)
            server.join()
    except KeyboardInterrupt:
        return 0
    except LexisegError as error:
        print(f"error [{error.code}]: {error.given}", file=sys.stderr)
        for mark, text in (("allowed", error.allowed), ("next", error.next_step)):
            if text:
                print(f"  {mark + ':':<9}{text}", file=sys.stderr)
        return 2
    return 0


def default_cache() -> Path:
    """`vllm` in the folder where lexiseg keeps what it can make again: LEXISEG_CACHE, else in the user's caches."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("LEXISEG_CACHE") or Path(base) / "lexiseg") / "vllm"


if __name__ == "__main__":
    sys.exit(main())
