"""Every failure a person can cause or meet, as one tree and one closed list of codes.

LexisegError
+-- InputError        an image, folder or list of inputs
+-- VocabularyError   class names and vocabulary files
+-- AnswerError       what a language model answered
+-- ModelError        a model directory
+-- DatasetError      a folder with pictures and ground truth
+-- SettingError      an option, or a combination of options
+-- OutputError       the place where results are written
+-- LlmError          a language model's server, or the store of its answers
+-- JobError          a job, the ledger that keeps it, or the queue
+-- MissingPackageError   an optional package or system library that is not installed

A message has three parts: what was given, what is allowed, and what to do next. The code never changes its
meaning; `results.jsonl`, the ledger and the API carry it as the reason of a failed item.
"""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """Reason codes. The list is closed: a new code is a new line here and in `docs/reasons.md`."""

    # one image
    FILE_MISSING = "file-missing"
    FILE_EMPTY = "file-empty"
    FILE_UNREADABLE = "file-unreadable"
    NOT_AN_IMAGE = "not-an-image"
    IMAGE_TRUNCATED = "image-truncated"
    IMAGE_TOO_LARGE = "image-too-large"
    IMAGE_ANIMATED = "image-animated"
    IMAGE_MODE = "image-mode"
    OUT_OF_MEMORY = "out-of-memory"
    WORKER_DIED = "worker-died"
    INTERNAL = "internal"
    # the ground truth of one image
    LABEL_MISSING = "label-missing"
    LABEL_UNREADABLE = "label-unreadable"
    LABEL_SIZE = "label-size"
    LABEL_UNKNOWN_ID = "label-unknown-id"
    # the whole request
    NO_INPUTS = "no-inputs"
    FOLDER_UNREADABLE = "folder-unreadable"
    MANIFEST_INVALID = "manifest-invalid"
    OUTPUT_COLLISION = "output-collision"
    OUTPUT_UNWRITABLE = "output-unwritable"
    DISK_FULL = "disk-full"
    VOCABULARY_INVALID = "vocabulary-invalid"
    VOCABULARY_CONFLICT = "vocabulary-conflict"
    CLASS_NAME_INVALID = "class-name-invalid"
    MODEL_MISSING = "model-missing"
    MODEL_INCOMPLETE = "model-incomplete"
    MODEL_CORRUPT = "model-corrupt"
    MODEL_UNSUPPORTED = "model-unsupported"
    DATASET_INVALID = "dataset-invalid"
    SETTING_INVALID = "setting-invalid"
    DEVICE_MISSING = "device-missing"
    PACKAGE_MISSING = "package-missing"
    OFFLINE_CHANGED = "offline-changed"
    DOWNLOAD_FAILED = "download-failed"
    # jobs
    JOB_MISSING = "job-missing"
    JOB_STATE = "job-state"
    TOO_MANY_FAILURES = "too-many-failures"
    LEDGER_UNAVAILABLE = "ledger-unavailable"
    BROKER_UNAVAILABLE = "broker-unavailable"
    WORKER_DIFFERS = "worker-differs"
    CLOCK_SKEW = "clock-skew"
    # a language model and what is kept of its answers
    LLM_UNAVAILABLE = "llm-unavailable"
    LLM_MODEL_MISSING = "llm-model-missing"
    LLM_REFUSED = "llm-refused"
    LLM_CONTEXT = "llm-context"
    LLM_BLIND = "llm-blind"
    LLM_CALLS = "llm-calls"
    LLM_PROTOCOL = "llm-protocol"
    STORE_UNAVAILABLE = "store-unavailable"
    # one answer of a language model
    ANSWER_EMPTY = "answer-empty"
    ANSWER_REFUSED = "answer-refused"
    ANSWER_UNREADABLE = "answer-unreadable"
    ANSWER_TRUNCATED = "answer-truncated"
    ANSWER_UNFIT = "answer-unfit"


class LexisegError(Exception):
    """Base of every error that lexiseg raises on purpose.

    code: the stable reason; given: what was found; allowed: what would have been right; next_step: a command
    or an action for the person who reads it.
    """

    def __init__(self, code: Code, given: str, allowed: str = "", next_step: str = "") -> None:
        self.code, self.given, self.allowed, self.next_step = code, given, allowed, next_step
        super().__init__(" ".join(part for part in (given, allowed, next_step) if part))

    def __reduce__(self):
        return type(self), (self.code, self.given, self.allowed, self.next_step)


class InputError(LexisegError):
    """An image, folder or list of inputs cannot be used."""


class VocabularyError(LexisegError):
    """Class names or a vocabulary file cannot be used."""


class AnswerError(LexisegError):
    """What a language model answered cannot be used."""


class ModelError(LexisegError):
    """A model directory cannot be used."""


class DatasetError(LexisegError):
    """A dataset folder cannot be used."""


class SettingError(LexisegError):
    """An option, or a combination of options, cannot be used."""


class OutputError(LexisegError):
    """Results cannot be written."""


class LlmError(LexisegError):
    """The server of a language model, or the store of its answers, cannot be used."""


class JobError(LexisegError):
    """A job, the ledger that keeps it, or the queue cannot be used."""


class MissingPackageError(LexisegError):
    """An optional package or system library is not installed."""
