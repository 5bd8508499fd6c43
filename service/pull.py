"""`lexiseg models pull`: the one command that downloads, for a host with internet. What it leaves is carried to the
site and verified there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from agents.offline import connected
from parsers.errors import Code, MissingPackageError, ModelError, OutputError, SettingError
from parsers.files import output_error, pretty_json, sha256_file, write_atomic
from service.console import say
from vision.models import CARD_FILE, WEIGHT_FILES, Origin, load_card

CLIP_FILES = ("open_clip_config.json", *WEIGHT_FILES, "tokenizer*.json", "vocab.json", "vocab.txt", "merges.txt",
              "special_tokens_map.json", "added_tokens.json")
CHECKPOINT_FILES = ("config.json", "generation_config.json", "preprocessor_config.json", "*.safetensors",
                    "*.safetensors.index.json", "tokenizer*.json", "vocab.json", "merges.txt", "added_tokens.json",
                    "special_tokens_map.json")
PICKLED = ("pytorch_model*.bin", "pytorch_model.bin.index.json")
"""Only where there are no safetensors; the conversion reads tensors from them and nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a model comes from."""

    repository: str
    tower: str | None = None
    """Repository of the image tower that a LLaVA-Phi2 was trained on; None: a CLIP, which has its own."""


SOURCES = {
    "clip-vit-b-16": Source(repository="timm/vit_base_patch16_clip_224.openai"),
    "clip-vit-l-14": Source(repository="timm/vit_large_patch14_clip_224.openai"),
    "llava-phi2": Source(repository="FreedomIntelligence/ALLaVA-Phi2-2_7B",
                         tower="openai/clip-vit-large-patch14-336"),
}


def pull(name: str, to: Path, *, repository: str | None, revision: str, tower_revision: str | None,
         endpoint: str) -> None:
    """Downloads a model of SOURCES (or the same kind of model from another repository) into the new folder `to`,
    compares every file with the digest that the hub has, converts a LLaVA-Phi2, and writes `model.json` with revision
    and sha256, those of its image tower too. `to` is whole afterwards, or not there. tower_revision: of the image
    tower's repository; None: main.

    Raises SettingError, MissingPackageError, OutputError, and ModelError (`download-failed`, `model-unsupported`,
    `model-incomplete`, `model-corrupt`).
    """
    if name not in SOURCES:
        raise SettingError(Code.SETTING_INVALID, f"There is no model {name!r} to pull.", f"{', '.join(SOURCES)}.",
                           "lexiseg models pull clip-vit-b-16 --to models/clip-vit-b-16")
    source = SOURCES[name]
    if source.tower is None and tower_revision is not None:
        raise SettingError(Code.SETTING_INVALID, f"--tower-revision {tower_revision} for {name}, which has its image "
                           "tower in its own repository.", "--tower-revision belongs to llava-phi2.",
                           "Give --revision alone.")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise OutputError(Code.OUTPUT_COLLISION, f"{to} holds something already.", "A new folder.",
                          f"Choose another --to, or verify what is there: lexiseg models verify {to}")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=to.parent, prefix=f".{to.name}.", suffix=".part"))
    except OSError as error:
        raise output_error(to, error) from error
    try:
        with connected():
            is_clip, hub = source.tower is None, Hub(endpoint)
            origin = hub.download(repository or source.repository, revision, staging / "model",
                                  CLIP_FILES if is_clip else CHECKPOINT_FILES, pickled=not is_clip)
            tower = None if source.tower is None else hub.download(
                source.tower, tower_revision or "main", staging / "tower", CHECKPOINT_FILES, pickled=True)
        if tower is None:
            made = staging / "model"
            _write_card(made, name, origin)
        else:
            made = staging / "converted"
            convert(staging / "model", made, staging / "tower")
            _add_origins(made, _with_files(origin, staging / "model"), _with_files(tower, staging / "tower"))
        os.chmod(made, 0o755)
        if to.exists():
            to.rmdir()
        os.replace(made, to)
    except OSError as error:
        raise output_error(to, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    said = " and ".join(f"{one.repository} at revision {one.revision}" for one in (origin, tower) if one)
    say(f"{to}: {said}, {sum(path.stat().st_size for path in to.iterdir()) / 1e6:.0f} MB. Carry it to the site, then "
        f"there: lexiseg models verify {to.name}")


class Hub:
    """A hub, or a mirror of it. Made inside `connected`, since its library reads the switches when it is imported."""

    def __init__(self, endpoint: str) -> None:
        """Raises MissingPackageError."""
        os.environ["HF_HUB_DISABLE_XET"] = "1"  # plain HTTP, whose files carry their sha256
        try:
            import huggingface_hub
            from huggingface_hub.utils import disable_progress_bars
        except ImportError as error:
            raise MissingPackageError(Code.PACKAGE_MISSING, f"Downloads need a package that is not installed: {error}.",
                                      "", "pip install 'lexiseg[vision]'") from error
        if not sys.stderr.isatty():
            disable_progress_bars()
        self._endpoint, self._library = endpoint, huggingface_hub

    def download(self, repository: str, revision: str, to: Path, wanted: Iterable[str], *, pickled: bool) -> Origin:
        """The wanted files of a repository, each compared with the hub's digest. Raises ModelError."""
        try:
            info = self._library.HfApi(endpoint=self._endpoint, token=False).model_info(
                repository, revision=revision, files_metadata=True)
            if not info.sha:
                raise ValueError("the hub names no revision")
            siblings = {one.rfilename: one for one in info.siblings or ()}
            names = chosen(siblings, wanted, pickled=pickled)
            to.mkdir(parents=True)
            for name in names:
                say(f"{repository}: {name}", stderr=True)
                path = Path(self._library.hf_hub_download(repository, name, revision=info.sha, local_dir=to,
                                                          endpoint=self._endpoint, token=False))
                check_download(path, siblings[name])
        except ModelError:
            raise
        except Exception as error:  # the library has a tree of its own, which changes
            raise _failed(repository, self._endpoint, error) from error
        shutil.rmtree(to / ".cache", ignore_errors=True)
        licence = info.card_data.get("license") if info.card_data else None
        return Origin(repository=repository, revision=info.sha, licence=str(licence) if licence else None)


def chosen(names: Iterable[str], wanted: Iterable[str], *, pickled: bool) -> list[str]:
    """The files to take, by name. Raises ModelError where there are no weights, or only pickled ones of a CLIP."""
    top = sorted(name for name in names if len(PurePosixPath(name).parts) == 1 and not name.startswith("."))
    found = [name for name in top if any(fnmatch(name, pattern) for pattern in wanted)]
    if not any(name.endswith(".safetensors") for name in found):
        found += [name for name in top if pickled and any(fnmatch(name, pattern) for pattern in PICKLED)]
        if not any(name.endswith(".bin") for name in found):
            raise ModelError(Code.MODEL_UNSUPPORTED, f"The repository has no weights that are taken: "
                             f"{', '.join(top[:12]) or 'it is empty'}.", "Weights as safetensors.",
                             "Give another repository with --from.")
    return found


def check_download(path: Path, sibling: Any) -> None:
    """Compares a file with what the hub says of it: sha256 of large ones, git's digest of others. Raises ModelError."""
    if sibling.lfs is not None:
        expected, found = sibling.lfs.sha256, sha256_file(path)
    elif sibling.blob_id:
        data = path.read_bytes()
        expected = sibling.blob_id
        found = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    else:
        return
    if found != expected:
        raise ModelError(Code.MODEL_CORRUPT, f"{path.name} arrived with the digest {found}, the hub says {expected}.",
                         "The file as it was published.", "Run the command again.")


def convert(source: Path, target: Path, tower: Path) -> None:
    """Converts in a process of its own, which is offline again. Raises ModelError."""
    done = subprocess.run(
        [sys.executable, "-c", "from service.cli import main; main()", "models", "convert-llava-phi2", str(source),
         str(target), "--vision-tower", str(tower), "--json"], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    if done.returncode == 0:
        return
    try:
        said = json.loads(done.stdout)["error"]
    except (ValueError, KeyError, TypeError):
        said = {"given": done.stderr.strip()[-500:] or "the conversion failed", "allowed": "", "next_step": ""}
    raise ModelError(Code.MODEL_UNSUPPORTED, f"What was downloaded cannot be converted: {said['given']}",
                     said["allowed"], said["next_step"] or "Give another repository with --from.")


def _write_card(directory: Path, name: str, origin: Origin) -> None:
    card = load_card(directory).model_copy(update={
        "name": name, "licence": origin.licence, "origin": origin,
        "files": {path.name: sha256_file(path) for path in sorted(directory.iterdir()) if path.is_file()}})
    write_atomic(directory / CARD_FILE, pretty_json(card.model_dump(mode="json")))


def _with_files(origin: Origin, directory: Path) -> dict[str, Any]:
    """An origin with the sha256 of the files that came from there and that the conversion leaves behind."""
    return origin.model_dump(mode="json") | {
        "files": {path.name: sha256_file(path) for path in sorted(directory.iterdir()) if path.is_file()}}


def _add_origins(directory: Path, origin: dict[str, Any], tower: dict[str, Any]) -> None:
    content = json.loads((directory / CARD_FILE).read_bytes())
    content |= {"origin": origin, "tower_origin": tower, "licence": origin["licence"]}
    write_atomic(directory / CARD_FILE, pretty_json(content))


def _failed(repository: str, endpoint: str, error: Exception) -> ModelError:
    return ModelError(Code.DOWNLOAD_FAILED, f"{repository} could not be downloaded from {endpoint}: "
                      f"{type(error).__name__}: {' '.join(str(error).split())[:300]}.",
                      "A host that reaches the hub; this command is the only one that needs it.",
                      "Run it there, carry the folder over, then: lexiseg models verify (docs/air-gap.md)")
