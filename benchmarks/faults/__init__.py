"""The faults that ``tests/faults`` puts into our runs, put into runs of transformers' Trainer."""
