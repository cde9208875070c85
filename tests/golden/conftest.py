"""The base model and the rows of small whole runs."""

from tests.smallrun import ground  # noqa: F401 - a fixture
