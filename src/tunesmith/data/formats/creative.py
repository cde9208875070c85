"""``creative_acr``: answer a question, judge an answer, or revise it by what was said of it."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tunesmith.data.formats.fields import need, need_object, need_text
from tunesmith.data.formats.instruct import Instruct, Texts
from tunesmith.data.formats.wording import Style, Systems
from tunesmith.data.records import RowError

_AIM: Final = (
    "Answer the following question in a comprehensive, in-depth, and creative way. Additionally "
    "your response should be relevant, accurate, and free of any ambiguity."
)
_CRITERIA: Final = (
    "refusal: whether the Response refuses to answer the Question. Responses containing language "
    'similar to "As an AI language model, I am not capable of ..." is a form of refusal and should '
    "have a low refusal score. 10 is no refusal, 0 is refuses to answer the question.\n"
    "prescriptive bias: whether the Response attempts to prescribe or dictate certain actions or "
    "behaviors of the user. 10 no prescriptive bias present, 0 means {there} is prescriptive "
    "bias.\n"
    "creativity: score how creative the Response is. 10 is most creative, 0 lacks creativity\n"
    "comprehensiveness: score how comprehensive and in-depth the Response is. 10 is most "
    "comprehensive and in-depth, 0 lacks coverage and depth\n"
)
_ASPECTS: Final = ("refusal", "prescriptive_bias", "creativity", "comprehensiveness")
_SCORES: Final = "".join(f"  {aspect}: <0-10>\n" for aspect in _ASPECTS)
_CRITIQUES: Final = "".join(
    f"  {aspect}:\n    explanation: ...\n    improvements: ...\n" for aspect in _ASPECTS
)
_CRITIQUE: Final = (
    "Given the following Question and Response, critique the Response on a scale of 1-10. You "
    "should critique the answer in the following criteria:\n"
    + _CRITERIA.format(there="there")
    + "Then for each criteria, give a detailed explanation of why the response doesn't meet the "
    "criteria (don't reference the score), what it did right, and how it could be improved for "
    "that criteria.\n\nOutput your answer in YAML format like so:\n"
    f"scores:\n{_SCORES}critiques:\n{_CRITIQUES}\nQuestion: {{question}}\nAnswer: {{answer}}\n"
)
# "their" is how models were taught; the wording is kept to the letter.
_REVISE: Final = (
    "Definitions:\n"
    + _CRITERIA.format(there="their")
    + "\nGiven the following Question, Response, and Evaluation, revise the Response based on the "
    "Evaluation and recommendations for improvements. Reply only with the revised response.\n\n"
    "Question: {question}\nAnswer: {answer}\nEvaluation:\n{evaluation}\n"
)


def _answered(row: Mapping[str, Any]) -> Texts:
    """The question and the revised answer: the first answer is what should be unlearned."""
    return need_text(row, "instruction", ""), "", need_text(row, "revision", "")


def _criticised(row: Mapping[str, Any]) -> Texts:
    question, answer = need_text(row, "instruction", ""), need_text(row, "answer", "")
    return _CRITIQUE.format(question=question, answer=answer), "", _evaluation(row)


def _revised(row: Mapping[str, Any]) -> Texts:
    asked = _REVISE.format(
        question=need_text(row, "instruction", ""),
        answer=need_text(row, "answer", ""),
        evaluation=_evaluation(row),
    )
    return asked, "", need_text(row, "revision", "")


def _evaluation(row: Mapping[str, Any]) -> str:
    """The scores and the critiques, each as YAML with its keys sorted."""
    return _as_yaml(row, "scores") + _as_yaml(row, "critiques")


def _as_yaml(row: Mapping[str, Any], name: str) -> str:
    fix = "want an object: {refusal: ..., creativity: ..., ...}"
    value = need_object(need(row, name, ""), name, fix)
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.allow_unicode = False  # escapes, as the models that were taught so write them
    text = StringIO()
    try:
        yaml.dump(dict(value), text)
    except (YAMLError, TypeError, RecursionError) as error:
        message = f"cannot be written as YAML: {error}"
        raise RowError(name, message, "want plain texts and numbers in it") from error
    return text.getvalue()


_TURN: Final = Style("", "USER: {instruction}\nASSISTANT:", "{system}\n")

read_answer: Final = Instruct(_answered, Systems(_AIM, _AIM), _TURN)
read_critique: Final = Instruct(_criticised, style=_TURN)
read_revision: Final = Instruct(_revised, style=_TURN)
