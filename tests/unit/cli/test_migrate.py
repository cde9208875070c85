import os
import stat

import pytest

from tunesmith.cli.main import run
from tunesmith.errors import ExitCode

OLD = "base_model: m\nflash_attention: true   # fast\nevaluation_strategy: 'no'\n"
NEW = "base_model: m\n# fast\neval_strategy: 'no'\n"


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text(OLD)
    path.chmod(0o640)
    return path


def test_without_write_the_diff_is_shown_and_the_file_stays(old, capsys):
    assert run(["config", "migrate", str(old)]) == ExitCode.DONE
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        f"--- {old}",
        f"+++ {old}",
        "@@ -1,3 +1,3 @@",
        " base_model: m",
        "-flash_attention: true   # fast",
        "-evaluation_strategy: 'no'",
        "+# fast",
        "+eval_strategy: 'no'",
    ]
    assert captured.err == f"{old}: 2 old keys; `--write` rewrites them in the file\n"
    assert old.read_text() == OLD


def test_write_replaces_the_file_and_keeps_its_mode_and_links(old, tmp_path, capsys):
    link = tmp_path / "link.yaml"
    link.symlink_to(old)
    assert run(["config", "migrate", "-w", str(link)]) == ExitCode.DONE
    assert capsys.readouterr().out == f"{link}: 2 old keys rewritten\n"
    assert link.is_symlink()
    assert old.read_text() == NEW
    assert stat.S_IMODE(old.stat().st_mode) == 0o640
    assert sorted(os.listdir(tmp_path)) == ["link.yaml", "old.yaml"]


def test_what_is_not_old_is_not_written(tmp_path, capsys):
    path = tmp_path / "new.yaml"
    path.write_text(NEW)
    os.utime(path, (1, 1))
    assert run(["config", "migrate", "-w", str(path)]) == ExitCode.DONE
    assert capsys.readouterr().out == f"{path}: nothing is old\n"
    assert path.stat().st_mtime == 1


def test_check_says_by_its_code_whether_something_is_old(old, tmp_path, capsys):
    new = tmp_path / "new.yaml"
    new.write_text(NEW)
    assert run(["config", "migrate", "--check", str(new)]) == ExitCode.DONE
    assert run(["config", "migrate", "--check", str(new), str(old)]) == ExitCode.WRONG_INPUT
    assert capsys.readouterr().out.splitlines()[-1] == f"{old}: 2 old keys"
    assert old.read_text() == OLD


def test_the_byte_order_mark_and_windows_line_ends_stay(tmp_path):
    path = tmp_path / "windows.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + OLD.replace("\n", "\r\n").encode())
    assert run(["config", "migrate", "-w", str(path)]) == ExitCode.DONE
    assert path.read_bytes() == b"\xef\xbb\xbf" + NEW.replace("\n", "\r\n").encode()


def test_nothing_is_written_if_one_of_the_files_cannot_be_read(old, tmp_path, capsys):
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [\n")
    assert run(["config", "migrate", "-w", str(old), str(broken)]) == ExitCode.WRONG_INPUT
    assert "broken.yaml" in capsys.readouterr().err
    assert old.read_text() == OLD


def test_check_judges_all_files_each_in_a_line(old, tmp_path, capsys):
    broken, new = tmp_path / "broken.yaml", tmp_path / "new.yaml"
    broken.write_text("a: [\n")
    new.write_text(NEW)
    words = ["config", "migrate", "--check", str(broken), str(old), str(new)]
    assert run(words) == ExitCode.WRONG_INPUT
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{broken}: cannot be read: ")
    assert first.endswith(f"({broken}:2:1)")
    assert (second, third) == (f"{old}: 2 old keys", f"{new}: nothing is old")


def test_what_an_anchor_shares_is_named_and_the_rest_is_written(tmp_path, capsys):
    path = tmp_path / "run.yaml"
    shared = "x-d: &d {type: sharegpt}\ndatasets:\n- {<<: *d, path: a}\n"
    path.write_text(shared + "evaluation_strategy: 'no'\n")
    assert run(["config", "migrate", "-w", str(path)]) == ExitCode.WRONG_INPUT
    captured = capsys.readouterr()
    assert captured.out == f"{path}: 1 old key rewritten\n"
    assert captured.err.startswith(f"{path}: 1 old key cannot be rewritten: an anchor")
    assert "datasets.0.type: sharegpt" in captured.err
    assert path.read_text() == shared + "eval_strategy: 'no'\n"


@pytest.mark.parametrize("words", [["-w", "--check", "x.yaml"], ["-w", "-"]])
def test_what_cannot_go_together_is_a_usage_error(words, capsys):
    assert run(["config", "migrate", *words]) == ExitCode.WRONG_INPUT
    assert "--write cannot go with" in capsys.readouterr().err
