"""Prompt files: whole, readable, and safe to fill."""

import json
import string

import pytest

from agents.planner import names_said
from agents.prompt import FOLDER, TASKS, load_prompt, quoted, sense

VALUES = {"name": '"dog"', "sense": "", "count": "7", "names": "[]", "clusters": "{}", "request": '"x"'}
PLACEHOLDERS = {"subclasses": {"name", "sense", "count"}, "clusters": {"names"},
                "clusters-refine": {"names", "clusters"}, "assign": {"clusters"}, "presence": {"name"},
                "plan": {"request"}, "describe-simple": set(), "describe-detailed": set()}


def styles():
    return [style for style in ("few-shot", "short") if list((FOLDER / style).glob("*.txt"))]


@pytest.mark.parametrize("style", styles())
@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_prompt_with_its_placeholders(task, style):
    prompt = load_prompt(task, style)
    found = set(string.Template(prompt.turns[-1][1]).get_identifiers())
    assert found == PLACEHOLDERS[task] if style == "few-shot" else found <= PLACEHOLDERS[task]
    assert [role for role, _ in prompt.turns] == ["user", "assistant"] * (len(prompt.turns) // 2) + ["user"]
    assert len(prompt.render(VALUES)) == len(prompt.turns)


def test_the_solved_examples_are_valid_answers():
    from agents.clusters import read_partition
    from agents.records import Plan
    from agents.subclasses import usable

    for role, text in load_prompt("subclasses", "few-shot").turns:
        assert role == "user" or usable(names := json.loads(text)["names"], "thing") == tuple(names)
    for task in ("clusters", "clusters-refine"):
        turns = load_prompt(task, "few-shot").turns
        for (_, question), (_, answer) in zip(turns[:-1:2], turns[1::2], strict=True):
            asked = json.loads(question.split("Names: ")[1].splitlines()[0])
            read_partition(answer, asked)
            assert list(json.loads(answer)) == asked
    for role, text in load_prompt("plan", "few-shot").turns:
        assert role == "user" or Plan.model_validate_json(text)


def test_comments_are_not_part_of_a_prompt():
    assert "benchmark of ours" in (FOLDER / "few-shot" / "subclasses.txt").read_text(encoding="utf-8")
    assert "benchmark of ours" not in str(load_prompt("subclasses", "few-shot").turns)


def test_a_picture_stands_before_the_text_of_the_last_turn():
    content = load_prompt("presence", "few-shot").render(VALUES, "data:image/png;base64,AA==")[-1]["content"]
    assert content[0] == {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    assert content[1]["text"].startswith('Is there "dog"')


def test_values_are_never_filled_in_twice():
    assert "$name" in load_prompt("presence", "few-shot").render({"name": quoted("$name $count")})[-1]["content"]


@pytest.mark.parametrize("text", ["dog", 'a "b" \\ c', "<image></s>", "\n[user]\n", "ö 犬", ""])
def test_what_is_quoted_can_be_read_again_and_holds_no_special_token(text):
    assert json.loads(quoted(text)) == text.replace("\n", "\n")
    assert not set("<>\n") & set(quoted(text))
    assert json.loads(quoted([text])) == [text] and json.loads(quoted({text: [text]})) == {text: [text]}


def test_a_sense_is_optional():
    assert sense(None) == sense(" ") == ""
    assert sense("the animal") == " (the animal)"


@pytest.mark.parametrize("name", ["names", "labels", "choice", "yes_no", "plan", "plan of a request"])
def test_the_grammar_that_both_ways_of_serving_share_takes_every_schema(name):
    xgrammar = pytest.importorskip("xgrammar")
    from agents import schemas

    said = names_said("mask every dog's \"red\" ball, the t-shirts (three) and the señorita, 犬, on the a.b*c[d] {}")
    odd = ["dog", 'a "quoted" \\ name', "犬", "<image>", "t-shirt (red)", "it's", "a.b*c[d]", "{}"]
    schema = {"names": schemas.names_schema(10), "labels": schemas.labels_schema(odd),
              "choice": schemas.choice_schema(odd), "yes_no": schemas.yes_no_schema(),
              "plan": schemas.plan_schema(), "plan of a request": schemas.plan_schema(said, said)}[name]
    answer = {"names": {"names": ["a", "b"]}, "labels": dict.fromkeys(odd, "things"), "choice": {"clusters": odd},
              "yes_no": {"answer": "yes"},
              "plan": {"targets": [], "subclasses": False, "candidate_free": True, "filters": []},
              "plan of a request": {"targets": ["t-shirt", "犬"], "subclasses": False, "candidate_free": True,
                                    "filters": [{"target": "", "attribute": "red", "relation": "next to",
                                                 "object": "señorita"}]}}[name]
    grammar = xgrammar.Grammar.from_json_schema(json.dumps(schema), any_whitespace=False, strict_mode=True)
    vocabulary = [bytes([byte]) for byte in range(256)] + ["</s>"]
    info = xgrammar.TokenizerInfo(vocabulary, stop_token_ids=[256])
    compiled = xgrammar.GrammarCompiler(info, max_threads=1).compile_grammar(grammar)

    def accepted(value) -> bool:
        matcher = xgrammar.GrammarMatcher(compiled)
        text = json.dumps(value, ensure_ascii=False)
        return all(matcher.accept_token(byte) for byte in text.encode()) and matcher.accept_token(256)

    assert accepted(answer)
    assert not accepted({**answer, "more": 1}) and not accepted({})
    if name == "plan of a request":
        assert not accepted({**answer, "targets": ["zebra"]})
    if name == "labels":
        assert not accepted(dict.fromkeys(odd[1:], "things"))


def test_letters_that_the_grammar_misreads_can_be_said():
    """The shared grammar reads "ä" and a hexadecimal digit behind it as one letter, in enumerations and keys."""
    xgrammar = pytest.importorskip("xgrammar")
    from agents import schemas

    names = ["Käfer", "Straße", "piñata", 'an "ñandú" (a.b*c[d] \\)', "犬", "dog"]
    info = xgrammar.TokenizerInfo([bytes([byte]) for byte in range(256)] + ["</s>"], stop_token_ids=[256])

    def accepted(schema, value) -> bool:
        grammar = xgrammar.Grammar.from_json_schema(json.dumps(schema), any_whitespace=False, strict_mode=True)
        matcher = xgrammar.GrammarMatcher(xgrammar.GrammarCompiler(info, max_threads=1).compile_grammar(grammar))
        text = json.dumps(value, ensure_ascii=False)
        return all(matcher.accept_token(byte) for byte in text.encode()) and matcher.accept_token(256)

    choice, plan = schemas.choice_schema(names), schemas.plan_schema(names, names)
    assert accepted(choice, {"clusters": names}) and not accepted(choice, {"clusters": ["Käf"]})
    assert not accepted(choice, {"clusters": ["anything"]})
    one = {"target": "Käfer", "attribute": "", "relation": "on", "object": "Straße"}
    assert accepted(plan, {"targets": names, "subclasses": True, "candidate_free": False, "filters": [one]})
    labels = schemas.labels_schema(names)
    assert accepted(labels, dict.fromkeys(names, "things")) and not accepted(labels, ["things"])
    assert "enum" in json.dumps(schemas.choice_schema(["öl", "señorita", "dog"]))
