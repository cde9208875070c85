"""Formats: what a row of each ``type`` means, as a record. One file per family.

A format is a function ``(row, options) -> record`` that knows no tokenizer. It raises ``RowError``
for a row that it cannot read; it never guesses.
"""
