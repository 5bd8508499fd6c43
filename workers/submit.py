"""A JobSpec becomes a job in the ledger, or more pictures for the one that is there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from sqlalchemy import update

from agents.store import NO_STORE
from parsers.errors import Code, InputError, JobError, OutputError, SettingError
from parsers.files import canonical_json, output_error, sha256_bytes, sha256_file, write_atomic
from parsers.prepared import PreparedPriors
from workers import manifests
from workers.inputs import InputItem, UnreadableFolder, iter_inputs
from workers.ledger import JobRow, JobState, Ledger, NewJob
from workers.ledger.intake import Intake, set_going, take_in
from workers.ledger.jobs import (
    ACCEPTED,
    Priority,
    create_job,
    forget_job,
    forget_new_items,
    get_job,
    item_names,
    open_items,
)
from workers.ledger.schema import jobs
from workers.outputs import FILES, FOLDERS, ignores_case, refuse_equal_names
from workers.spec import JobSpec

NOT_IN_DIGEST = {"inputs", "out", "workers", "batch", "preset", "max_failures", "format_version"}
"""What decides about no mask: a job keeps its results when it changes."""
MAX_SHARD = 64


@dataclass(frozen=True, slots=True)
class Submitted:
    """What came of a submission."""

    job: JobRow
    intake: Intake
    open: int
    """Pictures that are left to do."""


def submit(ledger: Ledger, spec: JobSpec, *, priority: Priority = "batch", shard_size: int = 32, attempts: int = 3,
           sample: int | None = None, notes: Sequence[str] = (),
           check: Callable[[InputItem], None] | None = None) -> Submitted:
    """Enters a job and its pictures into the ledger; workers begin at once.

    If OUT has a job of this ledger with the same digest, its pictures that are done stay done, new and changed ones
    are added, and it goes on; if nothing is new, nothing happens. sample: so many pictures first, the rest waits for
    `resume`. notes: warnings of the caller for job.json. check: is shown every picture, and raises to refuse the job.

    Raises InputError, SettingError, OutputError (`output-collision`: OUT has something else), JobError.
    """
    if priority not in get_args(Priority):
        raise SettingError(Code.SETTING_INVALID, f"priority is {priority!r}.",
                           f"One of: {', '.join(get_args(Priority))}.", "lexiseg jobs submit --help")
    if not 1 <= shard_size <= MAX_SHARD or not 1 <= attempts <= 100 or (sample is not None and sample < 1):
        raise SettingError(Code.SETTING_INVALID, f"shard_size {shard_size}, attempts {attempts}, sample {sample}.",
                           f"shard_size 1 to {MAX_SHARD}, attempts 1 to 100, sample 1 or more.",
                           "lexiseg jobs submit --help")
    spec = absolute(spec)
    out, digest = Path(spec.out), spec_digest(spec)
    _check_out(ledger, out)
    described = spec.model_dump_json()
    job = create_job(ledger, NewJob(out=spec.out, spec=described, digest=digest, priority=priority,
                                    shard_size=shard_size, attempts=attempts))
    if job.digest != digest:
        raise OutputError(Code.OUTPUT_COLLISION, f"{out} has the results of job {job.id}, which has another "
                          "vocabulary, model or setting.", "One job for one folder.", "Choose another --out.")
    before = job.state
    if sample is not None and before != JobState.SUBMITTING:
        raise JobError(Code.JOB_STATE, f"{out} has the job {job.id} already, which is {before}.",
                       "A sample is the beginning of a new job.", f"lexiseg jobs show {job.id}")
    unreadable: list[UnreadableFolder] = []
    if before != JobState.SUBMITTING:
        _set_state(ledger, job, JobState.SUBMITTING)
    try:
        found = find_items(spec.inputs, out, unreadable)
        intake = take_in(ledger, job, found if check is None else _checked(found, check), untold=spec.free is not None)
        if not intake.added + intake.changed + intake.known:
            if unreadable:
                raise InputError(Code.FOLDER_UNREADABLE, unreadable[0].message, "", "Check the permissions.")
            raise InputError(Code.NO_INPUTS, f"No pictures in {', '.join(spec.inputs[:5])}.",
                             "Files, folders, patterns and manifests.", "Name a folder that holds pictures.")
        if intake.added + intake.changed and ignores_case(out):
            refuse_equal_names(item_names(ledger, job.id), out)
    except BaseException:
        _undo(ledger, job, before)
        raise
    if job.spec != described or job.notes or notes or unreadable:
        with ledger.write() as connection:
            kept = {name: value for name, value in job.notes.items() if name == ACCEPTED}
            connection.execute(update(jobs).where(jobs.c.id == job.id).values(spec=described, notes=json.dumps(
                kept | {"warnings": list(notes), "unreadable": [{"path": folder.path, "code": folder.code,
                                                          "message": folder.message} for folder in unreadable]})))
    left = open_items(ledger, job.id)
    if before == JobState.DONE and not left:
        _set_state(ledger, job, JobState.DONE)
    else:
        set_going(ledger, job, sample=sample)
    now = get_job(ledger, job.id)
    assert now is not None
    return Submitted(now, intake, left)


def find_items(inputs: Sequence[str], out: Path | None, unreadable: list[UnreadableFolder]) -> Iterator[InputItem]:
    """The pictures of files, folders, patterns and manifests, one by one."""
    for given in inputs:
        path = Path(given).expanduser()
        if path.suffix.lower() in manifests.SUFFIXES and path.is_file():
            yield from manifests.read_manifest(path)
        else:
            yield from iter_inputs([given], out=out, unreadable=unreadable)


def _checked(found: Iterator[InputItem], check: Callable[[InputItem], None]) -> Iterator[InputItem]:
    for item in found:
        check(item)
        yield item


def absolute(spec: JobSpec) -> JobSpec:
    """The same job, whatever the working folder of who does it. Raises InputError for paths that are not UTF-8."""
    changes: dict[str, Any] = {"inputs": tuple(os.path.abspath(os.path.expanduser(given)) for given in spec.inputs),
               "out": os.path.abspath(os.path.expanduser(spec.out)), "model": os.path.abspath(spec.model)
               if os.path.isdir(spec.model) else spec.model}
    if spec.free is not None:
        given = {"descriptions": spec.free.descriptions, "llm": spec.free.llm, "store": spec.free.store}
        changes["free"] = spec.free.model_copy(update={
            name: os.path.abspath(os.path.expanduser(place)) for name, place in given.items()
            if place and "://" not in place and place != NO_STORE and (name != "llm" or os.path.isdir(place))})
    if told := spec.settings.get("descriptions"):
        path = Path(os.path.abspath(os.path.expanduser(str(told))))
        PreparedPriors.read(path)
        changes["settings"] = {**spec.settings, "descriptions": str(path), "descriptions_sha256": sha256_file(path)}
    for path in (*changes["inputs"], changes["out"]):
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise InputError(Code.SETTING_INVALID, f"{os.fsencode(str(path))!r} is not UTF-8.",
                             "A path in UTF-8; names below a folder may be anything.",
                             "Give the folder above.") from None
    return spec.model_copy(update=changes)


def spec_digest(spec: JobSpec) -> str:
    """Hexadecimal sha256 over what decides about a mask."""
    content = spec.model_dump(mode="json", exclude=NOT_IN_DIGEST | {"vocabulary", "free"})
    if spec.free is not None:
        content["free"] = spec.free.model_dump(mode="json", include={"llm_digest", "descriptions_sha256", "detail"})
    return sha256_bytes(canonical_json(content | {"vocabulary": spec.vocabulary.digest}))


def _check_out(ledger: Ledger, out: Path) -> None:
    """Raises OutputError unless OUT is of a job of this ledger, or holds nothing that a job would replace, and can be
    written."""
    with ledger.read() as connection:
        known = connection.execute(jobs.select().where(jobs.c.out == str(out))).first() is not None
    try:
        taken = [name for name in (*FOLDERS, *FILES, "job.json") if os.path.lexists(out / name)]
    except OSError as error:
        raise output_error(out, error) from error
    if taken and not known:
        raise OutputError(Code.OUTPUT_COLLISION, f"{out} already holds {', '.join(taken)}, which is of no job in the "
                          "ledger.", "A new or empty folder, or the folder of a job.", "Choose another --out.")
    probe = out / ".lexiseg-probe"
    write_atomic(probe, b"")
    probe.unlink(missing_ok=True)


def _set_state(ledger: Ledger, job: JobRow, state: JobState | str) -> None:
    with ledger.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job.id).values(state=state))


def _undo(ledger: Ledger, job: JobRow, before: str) -> None:
    """After a submission that cannot be used: the job as it was, or none."""
    try:
        if before == JobState.SUBMITTING:
            forget_job(ledger, job)
        else:
            forget_new_items(ledger, job)
            _set_state(ledger, job, before)
    except JobError:
        return
