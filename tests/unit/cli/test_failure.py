import io

import pytest

from tunesmith.cli.failure import exit_code_of, show_bug, show_error, show_notices
from tunesmith.errors import ConfigError, DataError, ExitCode, Problem, RunError, TunesmithError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(error: TunesmithError, **keywords: object) -> str:
    out = io.StringIO()
    show_error(error, stream=out, **keywords)
    return out.getvalue()


def test_an_error_says_what_where_and_what_to_change():
    error = DataError("no such field", hint="set `field`", where="a.jsonl:3")
    assert shown(error) == "error: no such field\n  at:  a.jsonl:3\n  fix: set `field`\n"


def test_several_problems_are_listed_with_their_places():
    found = [
        Problem(
            "unknown-key", "there is no key", "mend it", key="lr", file="r.yaml", line=3, column=1
        ),
        Problem("missing", "must be given", "", key="base_model", file="r.yaml"),
    ]
    assert shown(ConfigError("2 problems in r.yaml", hint="mend", problems=found)) == (
        "error: 2 problems in r.yaml\n"
        "  r.yaml:3:1: lr: there is no key\n"
        "      fix: mend it\n"
        "  r.yaml: base_model: must be given\n"
    )


def test_one_problem_is_one_block():
    found = [
        Problem("missing", "must be given", "add it", key="k", file="r.yaml", line=2, column=1)
    ]
    assert shown(ConfigError("k: must be given", hint="add it", problems=found)) == (
        "error: k: must be given\n  at:  r.yaml:2:1\n  fix: add it\n"
    )


def test_a_flood_of_problems_is_cut_and_counted():
    found = [Problem("missing", "m", key=str(number)) for number in range(60)]
    assert shown(ConfigError("many", hint="", problems=found)).endswith("... and 10 more\n")


def test_colour_is_for_terminals():
    terminal = Terminal()
    show_error(ConfigError("x", hint="y"), stream=terminal)
    show_notices(["n"], stream=terminal)
    assert "\x1b[" in terminal.getvalue()
    plain = io.StringIO()
    show_notices(["n"], stream=plain)
    assert plain.getvalue() == "note: n\n"


def test_debug_adds_the_traceback():
    with pytest.raises(ConfigError) as caught:
        raise ConfigError("x", hint="y")
    assert "Traceback" in shown(caught.value, debug=True)
    assert "Traceback" not in shown(caught.value)


def test_a_bug_asks_for_a_report():
    out = io.StringIO()
    show_bug(ZeroDivisionError("0"), stream=out)
    assert "ZeroDivisionError: 0" in out.getvalue()
    assert "Please report it" in out.getvalue()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("", hint=""), ExitCode.WRONG_INPUT),
        (RunError("", hint="", exit_code=ExitCode.IN_USE), ExitCode.IN_USE),
        (KeyboardInterrupt(), ExitCode.STOPPED),
        (ValueError(), ExitCode.BUG),
    ],
)
def test_every_error_has_its_code(error, code):
    assert exit_code_of(error) == code
