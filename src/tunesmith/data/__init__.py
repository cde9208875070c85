"""Rows become records, records become samples, samples become batches.

A format says what a row means without any tokens; the renderer turns that into token ids and the
weight of each as a target; `prepare` does so once for all rows, with an account of every token; the
packer, the collator and the stream hand them to the loop. Knows no model and no loss.
"""
