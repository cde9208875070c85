"""`config migrate` over the corpus: nothing old is left, and nothing else has changed."""

import difflib
import re
from collections import Counter
from pathlib import Path

import pytest

from tunesmith.config.migrate import migrate
from tunesmith.config.read import load
from tunesmith.errors import ConfigError

FOLDER = Path(__file__).parent / "corpus"
CORPUS = sorted(path for path in FOLDER.rglob("*.y*ml"))


def verdict(path: Path) -> tuple[object, Counter, Counter]:
    """The config, its problems without places, and its notices without places."""
    try:
        loaded = load(path)
    except ConfigError as error:
        return None, Counter((p.code, p.key) for p in error.problems), Counter()
    return loaded.config, Counter(), Counter(said(text) for text in loaded.notices)


def said(notice: str) -> str:
    return notice.partition(": ")[2]


def comments(text: str) -> Counter:
    return Counter(re.findall(r"(?:^|\s)#+ ?(.*)$", text, re.MULTILINE))


def readable() -> list:
    return [
        pytest.param(path, id=str(path.relative_to(FOLDER).with_suffix("")))
        for path in CORPUS
        if not re.search(r"^# expect: yaml", path.read_bytes().decode("utf-8", "replace"), re.M)
    ]


@pytest.mark.parametrize("path", readable())
def test_the_same_config_is_left_without_its_old_keys(path, tmp_path):
    text = path.read_text(encoding="utf-8")
    found = migrate(text, str(path))
    after = tmp_path / path.name
    after.write_text(found.after, encoding="utf-8")
    config, problems, notices = verdict(path)
    new_config, new_problems, new_notices = verdict(after)
    assert new_config == config
    assert new_problems == problems
    rewritten = Counter(said(line) for line in found.rewritten)
    assert config is None or new_notices == notices - rewritten
    assert migrate(found.after, "again").rewritten == ()


@pytest.mark.parametrize("path", readable())
def test_comments_stay_and_other_lines_are_not_touched(path):
    text = path.read_text(encoding="utf-8")
    found = migrate(text, str(path))
    kept = comments(found.after)
    for comment in comments(text):
        assert any(comment in other for other in kept), comment
    changed = [
        line[1:]
        for line in difflib.unified_diff(text.splitlines(), found.after.splitlines(), n=0)
        if line.startswith("-") and not line.startswith("---")
    ]
    if not found.rewritten:
        assert found.after == text
    else:
        assert changed
        assert len(changed) <= _lines_at_most(found.rewritten, text)


def _lines_at_most(rewritten: tuple[str, ...], text: str) -> int:
    """A rewritten key takes its own lines; only an entry that becomes a list moves as a whole."""
    if any("is read as a list" in line for line in rewritten):
        return len(text.splitlines())
    return sum(4 if "plugin" in line or "kwargs" in line else 1 for line in rewritten)


def test_the_corpus_has_many_old_keys():
    old = [path for path in CORPUS if _number(path)]
    assert len(old) >= 10
    assert sum(map(_number, old)) >= 40


def _number(path: Path) -> int:
    try:
        return len(migrate(path.read_text(encoding="utf-8"), path.name).rewritten)
    except ConfigError:
        return 0
