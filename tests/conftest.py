"""Every test runs offline, with a clean environment, on one thread; in CI a skipped test is a failed one."""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI", "").lower() not in ("", "0", "false")

# Set before any test file imports a heavy library. The proxy leads nowhere: it stops child processes, which the
# audit hook below does not reach.
os.environ.update({
    "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1",
    "HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1,localhost,::1",
})

settings.register_profile("lexiseg", deadline=None, derandomize=True, database=None)
settings.load_profile("lexiseg")


class NetworkBlockedError(RuntimeError):
    """A test tried to leave this machine."""


def _is_loopback(host: Any) -> bool:
    text = host.decode() if isinstance(host, bytes) else str(host)
    if text in ("localhost", "", "None"):
        return True
    try:
        return ipaddress.ip_address(text.split("%")[0]).is_loopback
    except ValueError:
        return False


def _block_network(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: Python calls it before each connection, datagram and name look-up."""
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        if isinstance(address, tuple) and not _is_loopback(address[0]):
            raise NetworkBlockedError(f"Tests may only talk to loopback, not to {address[0]}.")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname") and not _is_loopback(arguments[0]):
        raise NetworkBlockedError(f"Tests may not look up {arguments[0]!r}.")


sys.addaudithook(_block_network)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No setting of the person or the machine reaches a test; caches go to a temporary folder."""
    for name in list(os.environ):
        if name.startswith("LEXISEG_") or name in ("FORCE_COLOR", "GITHUB_ACTIONS", "TERMINAL_WIDTH"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")


@pytest.fixture(autouse=True)
def one_torch_thread() -> Iterator[None]:
    """A test neither inherits nor leaves behind a number of threads. torch is not imported for this."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    yield


@pytest.fixture
def pocket_clip() -> Path:
    """The folder of the pocket CLIP that comes with the repository."""
    return REPOSITORY / "models" / "pocket" / "clip"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report = yield
    return _no_skip(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    report = yield
    return _no_skip(report)


def _lacks_shared(report: Any) -> bool:
    """Whether a test is left out for want of the development data, which no clone brings."""
    return "../shared is absent" in str(report.longrepr) and not (REPOSITORY.parent / "shared").exists()


def _no_skip(report: Any) -> Any:
    if IN_CI and report.skipped and not hasattr(report, "wasxfail") and not _lacks_shared(report):
        report.outcome, report.longrepr = "failed", f"Skipped, which CI does not allow: {report.longrepr}"
    return report
