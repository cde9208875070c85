import io
import logging

import pytest

from tunesmith.log import ROOT, get_logger, setup


@pytest.fixture(autouse=True)
def _restored():
    logger = logging.getLogger(ROOT)
    before = (list(logger.handlers), logger.level, logger.propagate)
    yield
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


def said(**keywords: object) -> str:
    out = io.StringIO()
    setup(stream=out, **keywords)
    get_logger("tunesmith.models.load").info("loaded")
    get_logger("tunesmith.models.load").warning("careful")
    return out.getvalue()


def test_the_main_rank_says_everything():
    assert said() == "loaded\ncareful\n"


def test_other_ranks_say_warnings_with_their_rank():
    assert said(rank=1, world_size=2) == "[rank 1] careful\n"
    assert said(rank=0, world_size=2) == "[rank 0] loaded\n[rank 0] careful\n"


def test_the_level_holds():
    assert said(level="WARNING") == "careful\n"


def test_setting_up_again_replaces_the_handler():
    first = io.StringIO()
    setup(stream=first)
    assert said() == "loaded\ncareful\n"
    assert first.getvalue() == ""


def test_names_outside_the_package_are_put_under_it():
    assert get_logger("my_plugin").name == "tunesmith.my_plugin"
    assert get_logger("tunesmith.cli").name == "tunesmith.cli"
