"""Where every row and every token went: trained, masked, held out, or dropped and why.

Conservation is asserted, not hoped for: what goes in equals what comes out, per data set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tunesmith.data.records import Lint
from tunesmith.errors import TunesmithError

_EXAMPLES = 5

_COUNTS = (
    *("rows_in", "rows_trained", "rows_held_out", "samples"),
    *("tokens_in", "tokens_trained", "tokens_masked", "tokens_held_out"),
)


@dataclass(slots=True)
class Account:
    """One data set's rows and tokens.

    Rows in = trained + held out + dropped. Tokens in = trained + masked + held out + dropped.
    A row is kept when any of its samples is; tokens that are cut off a kept row are dropped tokens
    without a dropped row. ``samples`` counts the kept samples of both sides.
    """

    name: str
    rows_in: int = 0
    rows_trained: int = 0
    rows_held_out: int = 0
    rows_dropped: dict[str, int] = field(default_factory=dict)
    tokens_in: int = 0
    tokens_trained: int = 0
    tokens_masked: int = 0
    tokens_held_out: int = 0
    tokens_dropped: dict[str, int] = field(default_factory=dict)
    samples: int = 0
    examples: dict[str, list[str]] = field(default_factory=dict)

    def drop_tokens(self, reason: str, count: int) -> None:
        """Book tokens that nobody will see."""
        self.tokens_dropped[reason] = self.tokens_dropped.get(reason, 0) + count

    def drop_row(self, reason: str, source: str) -> None:
        """Book a row of which nothing is left; the first few are named."""
        self.rows_dropped[reason] = self.rows_dropped.get(reason, 0) + 1
        named = self.examples.setdefault(reason, [])
        if len(named) < _EXAMPLES:
            named.append(source)

    def absorb(self, other: Account) -> None:
        """Add what another part of the same data set went through."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for mine, theirs in (
            (self.rows_dropped, other.rows_dropped),
            (self.tokens_dropped, other.tokens_dropped),
        ):
            for reason, count in theirs.items():
                mine[reason] = mine.get(reason, 0) + count
        for reason, places in other.examples.items():
            self.examples[reason] = [*self.examples.get(reason, []), *places][:_EXAMPLES]

    def check(self) -> None:
        """Raise when something was lost or counted twice.

        Raises:
            TunesmithError: the account does not balance, which is a bug of ours.
        """
        rows = self.rows_trained + self.rows_held_out + sum(self.rows_dropped.values())
        tokens = self.tokens_trained + self.tokens_masked + self.tokens_held_out
        tokens += sum(self.tokens_dropped.values())
        if (rows, tokens) != (self.rows_in, self.tokens_in):
            raise TunesmithError(
                f"{self.name}: {self.rows_in} rows and {self.tokens_in} tokens went in, "
                f"{rows} rows and {tokens} tokens are accounted for",
                hint="this is a bug of tunesmith: please report it with the config",
                where=self.name,
            )


@dataclass(slots=True)
class Findings:
    """How often one kind of lint was found, and its first examples."""

    count: int = 0
    first: list[Lint] = field(default_factory=list)


@dataclass(slots=True)
class Ledger:
    """The accounts of all data sets, in the config's order, and what was odd in their rows."""

    accounts: list[Account] = field(default_factory=list)
    lint: dict[str, Findings] = field(default_factory=dict)

    def note(self, lint: Lint) -> None:
        """Count a finding; the first few of a kind are kept."""
        findings = self.lint.setdefault(lint.code, Findings())
        findings.count += 1
        if len(findings.first) < _EXAMPLES:
            findings.first.append(lint)

    def absorb(self, part: Ledger, number: int) -> None:
        """Add a part of data set ``number``: its one account, and what was odd in it."""
        self.accounts[number].absorb(part.accounts[0])
        self._note_all(part)

    def add(self, part: Ledger) -> None:
        """Add a part of all the data sets: account by account, and what was odd in it."""
        for mine, theirs in zip(self.accounts, part.accounts, strict=True):
            mine.absorb(theirs)
        self._note_all(part)

    def _note_all(self, part: Ledger) -> None:
        for code, found in part.lint.items():
            findings = self.lint.setdefault(code, Findings())
            findings.count += found.count
            findings.first = [*findings.first, *found.first][:_EXAMPLES]

    def check(self) -> None:
        """Raise when any account does not balance."""
        for account in self.accounts:
            account.check()

    def examples(self) -> list[Lint]:
        """The first examples of every kind of finding."""
        return [lint for findings in self.lint.values() for lint in findings.first]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: what ``ledger.json`` holds."""
        return {
            "datasets": [_account_to_json(account) for account in self.accounts],
            "lint": {
                code: {
                    "count": findings.count,
                    "first": [{"at": one.source, "message": one.message} for one in findings.first],
                }
                for code, findings in self.lint.items()
            },
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Ledger:
        """The ledger that ``to_json`` wrote."""
        lint = {
            code: Findings(
                found["count"],
                [Lint(code, one["message"], one["at"]) for one in found["first"]],
            )
            for code, found in data["lint"].items()
        }
        return cls([_account_from_json(account) for account in data["datasets"]], lint)

    def summary(self) -> list[str]:
        """Lines for people: an account a data set, then what was dropped, then what was odd."""
        lines: list[str] = []
        for account in self.accounts:
            lines += _account_lines(account)
        for code, findings in self.lint.items():
            one = findings.first[0]
            lines.append(f"{findings.count:,} x {code}: {one.message} ({one.source})")
        return lines


def _account_to_json(account: Account) -> dict[str, Any]:
    return {
        "name": account.name,
        "samples": account.samples,
        "rows": {
            "in": account.rows_in,
            "trained": account.rows_trained,
            "held_out": account.rows_held_out,
            "dropped": account.rows_dropped,
        },
        "tokens": {
            "in": account.tokens_in,
            "trained": account.tokens_trained,
            "masked": account.tokens_masked,
            "held_out": account.tokens_held_out,
            "dropped": account.tokens_dropped,
        },
        "dropped_rows": account.examples,
    }


def _account_from_json(data: Mapping[str, Any]) -> Account:
    rows, tokens = data["rows"], data["tokens"]
    return Account(
        name=data["name"],
        rows_in=rows["in"],
        rows_trained=rows["trained"],
        rows_held_out=rows["held_out"],
        rows_dropped=dict(rows["dropped"]),
        tokens_in=tokens["in"],
        tokens_trained=tokens["trained"],
        tokens_masked=tokens["masked"],
        tokens_held_out=tokens["held_out"],
        tokens_dropped=dict(tokens["dropped"]),
        samples=data["samples"],
        examples=dict(data["dropped_rows"]),
    )


def _account_lines(account: Account) -> list[str]:
    parts = [
        (account.tokens_trained, "train"),
        (account.tokens_masked, "are masked"),
        (account.tokens_held_out, "are held out"),
        (sum(account.tokens_dropped.values()), "are dropped"),
    ]
    told = ", ".join(f"{count:,} {what}" for count, what in parts if count)
    lines = [
        f"{account.name}: {account.rows_in:,} rows, {account.tokens_in:,} tokens: {told or 'none'}"
    ]
    for reason in _in_order(account.rows_dropped, account.tokens_dropped):
        rows, tokens = account.rows_dropped.get(reason, 0), account.tokens_dropped.get(reason, 0)
        places = account.examples.get(reason, ())[:3]
        named = ", ".join(place.removeprefix(f"{account.name}:") for place in places)
        where = f" (rows {named}{', ...' if rows > 3 else ''})" if named else ""
        counted = f"{rows:,} rows, {tokens:,} tokens" if rows else f"{tokens:,} tokens"
        lines.append(f"  dropped, {reason}: {counted}{where}")
    return lines


def _in_order(*tables: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name for table in tables for name in table))
