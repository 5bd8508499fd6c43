"""`lexiseg doctor`: is everything here that lexiseg needs, and is it the way it should be?"""

from __future__ import annotations

import importlib
import platform
import shutil
import subprocess
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from agents.offline import is_latched, switches_off
from parsers.errors import LexisegError
from service.app import cache_dir
from service.check import Check
from service.console import printable, say
from service.site_checks import site_checks
from workers.queue.settings import data_dir

NEEDED = {"numpy": "numpy", "Pillow": "PIL", "pydantic": "pydantic", "PyYAML": "yaml", "scipy": "scipy",
          "safetensors": "safetensors", "torch": "torch", "torchvision": "torchvision", "open_clip_torch": "open_clip",
          "transformers": "transformers"}
"""Distribution to module; all are imported, since an installed package that does not import is no use."""
LEAST_FREE_BYTES = 1 << 30

def run_checks(folder: Path = Path()) -> list[Check]:
    """All checks; `folder` is where disk space is looked at."""
    return [check_python(), *(check_package(name, module) for name, module in NEEDED.items()), check_pydensecrf(),
            check_device(), *check_models(), *(check_disk(place) for place in dict.fromkeys((folder, data_dir()))),
            check_cache(cache_dir()), check_switches(), *site_checks()]


def is_healthy(checks: list[Check]) -> bool:
    return all(check.state != "missing" for check in checks)


def show_checks(checks: list[Check]) -> None:
    """One line for each check, and what to do where something is not as it should be."""
    marks = {"ok": ("ok     ", "green"), "warning": ("warning", "yellow"), "missing": ("missing", "bold red")}
    for check in checks:
        mark, style = marks[check.state]
        say(f"{mark}  {check.name}: {printable(check.found)}" + (f"\n         next: {check.next_step}"
                                                                if check.next_step else ""), style)
    say("Everything that is needed is here." if is_healthy(checks) else "Something that is needed is missing.", "bold")


def check_python() -> Check:
    return Check(name="python", state="ok", found=f"{platform.python_version()} on {platform.platform()}")


def check_package(distribution: str, module: str) -> Check:
    """Is it installed, and does it import?"""
    try:
        number = version(distribution)
        importlib.import_module(module)
    except (PackageNotFoundError, ModuleNotFoundError):
        return Check(name=distribution, state="missing", found="not installed", next_step=f"pip install {distribution}")
    except Exception as error:  # a package may fail in any way while it is imported
        return Check(name=distribution, state="missing", found=f"does not import: {error}",
                     next_step=f"pip install --force-reinstall {distribution}")
    return Check(name=distribution, state="ok", found=number)


def check_pydensecrf() -> Check:
    """The refinement package is optional."""
    check = check_package("pydensecrf2", "pydensecrf.densecrf")
    if check.state == "ok":
        return check
    return Check(name="pydensecrf2", state="warning", found=f"{check.found}; --refine pydensecrf cannot be used",
                 next_step="pip install pydensecrf2 (it needs g++ and python3-dev)")


def check_device() -> Check:
    try:
        import torch
    except Exception as error:  # as above
        return Check(name="device", state="missing", found=f"torch does not import: {error}",
                     next_step="pip install torch")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Check(name="device", state="ok", found=f"cuda: {', '.join(names)}")
    found = f"cpu, {torch.get_num_threads()} threads; no CUDA device"
    if (cards := installed_gpus()):
        return Check(name="device", state="warning", found=f"{found}, although nvidia-smi lists {', '.join(cards)}",
                     next_step="Install a build of torch for the driver's CUDA version (nvidia-smi says it), and give "
                     "the container its GPUs.")
    return Check(name="device", state="ok", found=found)


def installed_gpus() -> list[str]:
    """What nvidia-smi lists; empty without it."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    try:
        text = subprocess.run([command, "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True,
                              timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in text.splitlines() if line.strip()]


def check_models() -> list[Check]:
    """The pocket models and all others below the models' folder."""
    from service.models import model_name
    from vision.models import list_models, resolve_model, verify_model

    checks = []
    try:
        directories = [card.directory for card in list_models()]
        if resolve_model(None, "clip") not in directories:
            raise LookupError
    except (LexisegError, LookupError) as error:
        found = str(error) or "the pocket model has no card"
        return [Check(name="pocket model clip", state="missing", found=found, next_step="Bring back "
                      "models/pocket/clip, or set LEXISEG_MODELS to the folder of your models.")]
    for directory in directories:
        name = f"model {model_name(directory)}"
        try:
            files = verify_model(directory)
        except LexisegError as error:
            checks.append(Check(name=name, state="missing", found=error.given, next_step=error.next_step))
        else:
            checks.append(Check(name=name, state="ok", found=f"{len(files)} files verified"))
    return checks


def check_disk(folder: Path) -> Check:
    """Room where the folder is, or will be."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    found = f"{free / (1 << 30):.1f} GiB free in {folder.resolve()}"
    if free < LEAST_FREE_BYTES:
        return Check(name="disk", state="warning", found=found, next_step="Free space before a large job.")
    return Check(name="disk", state="ok", found=found)


def check_cache(folder: Path) -> Check:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Check(name="cache", state="warning", found=f"{folder} cannot be written: {error.strerror}",
                     next_step="Set LEXISEG_CACHE to a folder in which you may write.")
    return Check(name="cache", state="ok", found=str(folder))


def check_switches() -> Check:
    missing = switches_off()
    if missing:
        return Check(name="offline switches", state="warning", found=f"not set: {', '.join(missing)}",
                     next_step="Run lexiseg by its own command, which sets them.")
    return Check(name="offline switches", state="ok", found="set: libraries do not call home"
                 + ("; nothing can change them" if is_latched() else ""))
