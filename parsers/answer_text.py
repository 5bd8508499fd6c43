"""The text of an answer: what a language model writes around it goes, and what is wrong with it is said."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from parsers.errors import AnswerError, Code
from parsers.names import shorten

MAX_LENGTH = 2**20
"""Characters of an answer. A model that writes more runs in circles."""
SHOWN = 5
"""Things that one message lists; the rest are counted."""


def prepared(answer: str) -> str:
    """The answer itself: without reasoning, roles, special tokens and what follows its end; characters that steer
    terminals or texts are blanks or gone. Raises AnswerError if it is too long or nothing is left."""
    if len(answer) > MAX_LENGTH:
        raise answer_error(Code.ANSWER_UNFIT, answer, f"it has {len(answer):,} characters", f"At most {MAX_LENGTH:,}.")
    text = answer.rpartition("</think>")[2].strip()
    if text.startswith("<think>"):
        raise truncated_error(answer, "An answer after the reasoning.")
    text = clean_text(text)
    text = text[role.end():] if (role := _ROLE.match(text)) else text
    if (end := _END.search(text, 1)) is not None:
        text = text[:end.start()]
    text = _TOKEN.sub("", text).strip()
    if not text:
        raise answer_error(Code.ANSWER_EMPTY, answer, "it is empty", "")
    return text


def clean_text(text: str) -> str:
    """`text` without format characters, with blanks for control characters other than ends of lines."""
    if text.isprintable():
        return text
    return "".join(char if char in "\n\t\u200c\u200d" else _REPLACED.get(unicodedata.category(char), char)
                   for char in text.replace("\r\n", "\n").replace("\r", "\n"))


def is_nothing(text: str) -> bool:
    """Whether `text` says that there is nothing: "none", "n/a"."""
    return text.strip(" \t\n\"'().").lower() in ("", "none", "nothing", "null", "n/a", "no")


def refuses(text: str) -> bool:
    """Whether `text` begins as refusals do: "I'm sorry, but"."""
    return _REFUSAL.match(text) is not None


def prose(text: str) -> str:
    """`text` as one line without marks, label and quotes around it; the items of a list become sentences."""
    lines = []
    for line in text.splitlines():
        mark = _MARK.match(line)
        body = line[mark.end() if mark else 0:].replace("**", "").replace("`", "").strip()
        lines.append(f"{body}." if mark and body and body[-1] not in ".!?:;," else body)
    joined = _LABEL.sub("", " ".join(" ".join(lines).split()))
    quoted = len(joined) > 1 and joined[0] + joined[-1] in ('""', "''", "“”", "«»", "「」")
    return joined[1:-1].strip() if quoted else joined


def listed(parts: Sequence[str]) -> list[str]:
    """The first SHOWN of `parts`, and how many more there are."""
    return [*parts[:SHOWN], *([f"and {len(parts) - SHOWN} more"] if len(parts) > SHOWN else [])]


def unreadable_error(answer: str, text: str, expected: str) -> AnswerError:
    if refuses(text):
        return answer_error(Code.ANSWER_REFUSED, answer, "the model refuses", expected)
    return answer_error(Code.ANSWER_UNREADABLE, answer, "nothing like what is expected is in it", expected)


def truncated_error(answer: str, expected: str) -> AnswerError:
    return AnswerError(Code.ANSWER_TRUNCATED, f"The answer ends in the middle: ...{' '.join(answer[-60:].split())!r}.",
                       expected, "Allow more tokens, or ask for less at once.")


def answer_error(code: Code, answer: str, problem: str, expected: str) -> AnswerError:
    return AnswerError(code, f"The answer {shorten(' '.join(answer[:200].split()), 80)} cannot be used: {problem}.",
                       expected, "Ask once more with this message, or let the server enforce a JSON schema.")


_REPLACED = {"Cc": " ", "Cf": "", "Cs": "\ufffd", "Zl": "\n", "Zp": "\n"}
_ROLE = re.compile(r"(?:<\|[a-z_]{1,30}\|>|<s>|(?:assistant|answer|output|response) ?:|\s)+", re.IGNORECASE)
_END = re.compile(r"<\|(?:im_end|endoftext|end|eot_id)\|>|</s>|\n *(?:user|human|instruct|question) ?:", re.IGNORECASE)
_TOKEN = re.compile(r"<\|[a-z_]{1,30}\|>|<s>")
_MARK = re.compile(r"[ \t]*(?:#{1,6}[ \t]|[-*•][ \t]|[0-9]{1,3}[.)][ \t]|>[ \t]|```[a-zA-Z]*)")
_LABEL = re.compile(r"\A(?:(?:the|a|image|detailed|short) ){0,3}(?:description|caption)(?: is)? ?: ?", re.IGNORECASE)
_REFUSAL = re.compile(
    r"(?:i['’]?m|i am) (?:very |really |so )?(?:sorry|unable|not able)|sorry\b|i apologi[sz]e|my apologies|"
    r"i (?:can['’]?t|cannot|can not|won['’]?t|will not) (?:help|assist|provide|describe|identify|answer|comply|"
    r"generate|do that|(?:see|view|access|open) (?:(?:the|this|that|your|any|an) )?(?:image|picture|photo|file))|"
    r"as an? (?:ai|artificial)\b|es tut mir leid|lo siento|(?:je suis )?désolé|mi dispiace|desculpe|извините|申し訳|"
    r"抱歉|对不起", re.IGNORECASE)
