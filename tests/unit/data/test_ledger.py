import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data.holdout import HoldOut, choose_held_out, first_of_each, row_digest
from tunesmith.data.kept import KeptRows, RowWriter, choose_sides, note_copies, settle
from tunesmith.data.ledger import Account, Ledger
from tunesmith.data.overlong import LengthRule, fit
from tunesmith.data.records import Lint, RowError, Source
from tunesmith.data.samples import TokenSample
from tunesmith.errors import DataError, TunesmithError


def sample(length, runs=(), start=0):
    return TokenSample(np.arange(start, start + length, dtype=np.int32), tuple(runs), "f:1")


def trained(samples):
    return sum(end - begin for one in samples for begin, end, _ in one.runs)


@st.composite
def samples(draw):
    length = draw(st.integers(0, 40))
    borders = sorted(draw(st.sets(st.integers(1, max(length, 1)), max_size=6)))
    pairs = zip(borders[::2], borders[1::2], strict=False)
    runs = [(begin, end, draw(st.sampled_from([0.5, 1.0]))) for begin, end in pairs]
    return sample(length, [run for run in runs if run[1] <= length], draw(st.integers(0, 2)))


RULES = st.builds(
    LengthRule,
    longest=st.integers(2, 20),
    shortest=st.integers(1, 5),
    policy=st.sampled_from(["drop", "truncate", "split"]),
)


@settings(deadline=None)  # the machine may be busy
@given(one=samples(), rule=RULES)
def test_no_token_of_a_sample_is_lost_or_invented(one, rule):
    kept, losses = fit(one, rule)
    assert sum(map(len, kept)) + sum(loss.tokens for loss in losses) == len(one)
    ids = one.input_ids.tolist()
    weights = dict(zip(ids, one.target_weights().tolist(), strict=True))
    for piece in kept:
        assert rule.shortest <= len(piece) <= rule.longest
        assert piece.total_weight > 0
        at = ids.index(int(piece.input_ids[0]))
        assert ids[at : at + len(piece)] == piece.input_ids.tolist()
        found = piece.target_weights().tolist()
        # The first token of a piece has no predecessor; the others keep their weight.
        assert found == [0.0] + [weights[token] for token in ids[at + 1 : at + len(piece)]]


@pytest.mark.parametrize(
    ("one", "policy", "kept", "reason"),
    [
        (sample(11, [(1, 11, 1.0)]), "drop", 0, "longer than sequence_len (10)"),
        (sample(11, [(1, 11, 1.0)]), "truncate", 1, "cut off at sequence_len (10)"),
        (sample(11, [(10, 11, 1.0)]), "truncate", 0, "cut off at sequence_len (10)"),
        (sample(11, [(1, 11, 1.0)]), "split", 1, "shorter than min_sample_len (2)"),
        (sample(1), "drop", 0, "shorter than min_sample_len (2)"),
        (sample(9), "drop", 0, "nothing to train"),
    ],
)
def test_why_tokens_are_dropped(one, policy, kept, reason):
    found, losses = fit(one, LengthRule(10, 2, policy))
    assert len(found) == kept
    assert losses[0].reason == reason


@pytest.mark.parametrize("policy", ["error", "raise"])
def test_a_row_that_is_too_long_can_be_an_error(policy):
    with pytest.raises(RowError, match="11 tokens, more than sequence_len") as error:
        fit(sample(11, [(1, 11, 1.0)]), LengthRule(10, 2, policy))
    assert "excess_length_strategy" in error.value.fix


def kept_rows(contents, datasets=None):
    """Rows of one sample each; equal contents are equal rows."""
    writer, sets = RowWriter(), [datasets[n] if datasets else 0 for n in range(len(contents))]
    for number, (content, dataset) in enumerate(zip(contents, sets, strict=True)):
        writer.add(Source(dataset, f"f{dataset}", number + 1), [sample(5, [(2, 5, 1.0)], content)])
    return KeptRows(writer.rows(), np.array(sets, dtype=np.int32), list(writer.files))


def test_a_row_is_known_by_its_ids_and_weights_alone():
    def digest(*parts):
        return row_digest(parts)

    one = sample(5, [(1, 3, 1.0)])
    assert digest(one) == digest(TokenSample(one.input_ids.copy(), one.runs, "elsewhere:9"))
    others = [
        digest(sample(5, [(1, 3, 0.5)])),
        digest(sample(5, [(1, 2, 1.0), (2, 3, 1.0)])),
        digest(sample(6, [(1, 3, 1.0)])),
        digest(one, one),
        # Where one sample ends and the next begins is part of what a row is.
        digest(TokenSample(one.input_ids[:2], (), ""), TokenSample(one.input_ids[2:], (), "")),
        digest(TokenSample(one.input_ids[:3], (), ""), TokenSample(one.input_ids[3:], (), "")),
    ]
    assert len({digest(one), *others}) == 7


CONTENTS = st.lists(st.integers(0, 30), min_size=2, max_size=60)


@settings(deadline=None)  # the machine may be busy
@given(contents=CONTENTS, size=st.sampled_from([0.1, 0.25, 0.5, 1, 2]), seed=st.integers(-5, 5))
def test_the_held_out_rows_depend_on_content_and_seed_alone(contents, size, seed):
    digests = kept_rows(contents).digests
    wanted = HoldOut(size, seed)
    count = wanted.count(len(contents))
    try:
        held = choose_held_out(digests, wanted)
    except DataError:
        return
    chosen = {content for content, is_held in zip(contents, held, strict=True) if is_held}
    # All copies of a row are on one side, so the count is exceeded by copies of one row at most.
    assert held.tolist() == [content in chosen for content in contents]
    assert count <= held.sum() < count + max(map(contents.count, contents))
    # The order of the rows does not matter.
    turned = choose_held_out(digests[::-1], wanted)
    assert turned.tolist() == held.tolist()[::-1]


def test_held_out_rows_are_pinned():
    # Fixed numbers: a change would silently move rows between the sides of everybody's runs.
    held = choose_held_out(kept_rows(range(20)).digests, HoldOut(0.2, 42))
    assert np.flatnonzero(held).tolist() == [8, 9, 11, 17]
    other = choose_held_out(kept_rows(range(20)).digests, HoldOut(0.2, 43))
    assert other.tolist() != held.tolist()


def test_holding_out_everything_is_an_error():
    with pytest.raises(DataError, match="`val_set_size: 3` holds out all 3 rows"):
        choose_held_out(kept_rows(range(3)).digests, HoldOut(3, 0))
    assert not choose_held_out(kept_rows(range(3)).digests, HoldOut(0, 0)).any()


def test_the_first_of_equal_rows():
    digests = kept_rows([3, 1, 3, 2, 1]).digests
    assert first_of_each(digests).tolist() == [True, True, False, True, False]


def settled(contents, datasets, tests=(), size=0.0, *, drop_copies):
    kept = kept_rows(contents, datasets)
    is_test = np.array([dataset in tests for dataset in datasets])
    ledger = Ledger([Account(f"f{number}") for number in range(max(datasets) + 1)])
    for number in datasets:
        ledger.accounts[number].rows_in += 1
        ledger.accounts[number].tokens_in += 5
    sides = choose_sides(kept, is_test, HoldOut(size, 1), drop_copies=drop_copies)
    note_copies(kept, sides, is_test, ledger)
    settle(kept, sides, ledger)
    ledger.check()
    return sides, ledger


def test_copies_are_dropped_when_asked_and_told_otherwise():
    contents, datasets = [1, 2, 1, 3, 3], [0, 0, 0, 1, 1]
    sides, ledger = settled(contents, datasets, tests={1}, drop_copies=True)
    assert sides.train.tolist() == [True, True, False, False, False]
    assert sides.held_out.tolist() == [False, False, False, True, False]
    assert ledger.accounts[0].rows_dropped == {"equal to an earlier row": 1}
    assert ledger.accounts[0].examples == {"equal to an earlier row": ["f0:3"]}
    assert not ledger.lint
    sides, ledger = settled(contents, datasets, tests={1}, drop_copies=False)
    assert sides.train.sum() == 3
    assert ledger.lint["duplicate-row"].count == 2
    assert [lint.source for lint in ledger.lint["duplicate-row"].first] == ["f0:3", "f1:5"]


def test_parts_of_a_run_are_all_its_rows_each_once():
    contents, datasets = list(range(11)), [0] * 6 + [1] * 5
    kept = kept_rows(contents, datasets)
    is_test = np.array([content == 2 for content in contents])
    parts = []
    for number in range(3):
        sides = choose_sides(kept, is_test, HoldOut(0, 1), drop_copies=False, shard=(number, 3))
        assert sides.held_out.tolist() == is_test.tolist()
        elsewhere = sides.dropped["in another shard of the run"]
        assert (sides.train | elsewhere | is_test).all()
        assert not (sides.train & elsewhere).any()
        parts.append(np.flatnonzero(sides.train).tolist())
    assert parts == [[0, 1, 3, 4], [5, 6, 7], [8, 9, 10]]


def test_a_training_row_that_is_also_held_out():
    contents, datasets = [1, 2, 2, 3], [0, 0, 1, 1]
    sides, ledger = settled(contents, datasets, tests={1}, drop_copies=True)
    assert sides.train.tolist() == [True, False, False, False]
    assert sides.held_out.tolist() == [False, False, True, True]
    assert ledger.accounts[0].rows_dropped == {"equal to a held-out row": 1}
    sides, ledger = settled(contents, datasets, tests={1}, drop_copies=False)
    assert sides.train.tolist() == [True, True, False, False]
    assert [lint.source for lint in ledger.lint["held-out-row"].first] == ["f0:2"]


@settings(deadline=None)  # the machine may be busy
@given(
    rows=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 2)), min_size=1, max_size=40),
    tests=st.sets(st.integers(0, 2)),
    size=st.sampled_from([0.0, 0.3]),
    drop_copies=st.booleans(),
)
def test_every_row_and_token_is_accounted_for(rows, tests, size, drop_copies):
    contents, datasets = [row[0] for row in rows], [row[1] for row in rows]
    size = 0.0 if tests else size  # never both: `prepare` refuses it
    try:
        sides, ledger = settled(contents, datasets, tests, size, drop_copies=drop_copies)
    except DataError:
        return
    assert not (sides.train & sides.held_out).any()
    if drop_copies:
        left = sides.train | sides.held_out
        found = [content for content, is_left in zip(contents, left, strict=True) if is_left]
        assert sorted(found) == sorted(set(contents))
    assert Ledger.from_json(json.loads(json.dumps(ledger.to_json()))) == ledger


def test_an_account_that_does_not_balance_is_a_bug():
    for wrong in ({"rows_in": 3}, {"tokens_in": 11}, {"rows_dropped": {"x": 1}}):
        account = Account(
            **{"name": "d", "rows_in": 2, "rows_trained": 2, "tokens_in": 10, "tokens_trained": 4}
            | {"tokens_masked": 6}
            | wrong
        )
        with pytest.raises(TunesmithError, match="d: ") as error:
            Ledger([account]).check()
        assert error.value.exit_code == 70


def test_the_summary_says_where_everything_went():
    account = Account("d.jsonl", rows_in=1005, tokens_in=20_000)
    account.rows_trained, account.rows_held_out = 900, 100
    account.tokens_trained, account.tokens_masked, account.tokens_held_out = 9000, 8000, 1900
    for number in range(5):
        account.drop_row("too long", f"d.jsonl:{number}")
    account.drop_tokens("too long", 1000)
    account.drop_tokens("cut off", 100)
    ledger = Ledger([account])
    for number in range(9):
        ledger.note(Lint("odd", f"turn {number}", f"d.jsonl:{number}"))
    ledger.check()
    assert ledger.summary() == [
        "d.jsonl: 1,005 rows, 20,000 tokens: 9,000 train, 8,000 are masked, 1,900 are held out, "
        "1,100 are dropped",
        "  dropped, too long: 5 rows, 1,000 tokens (rows 0, 1, 2, ...)",
        "  dropped, cut off: 100 tokens",
        "9 x odd: turn 0 (d.jsonl:0)",
    ]
    assert len(ledger.examples()) == 5
