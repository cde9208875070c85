"""``Patch``, one dated change to someone else's code, and how to apply and undo it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module

from tunesmith.errors import PatchError

Undo = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Patch:
    """What is changed, where, why and since when.

    ``door`` is ``module:function``; the function makes the change and returns how to undo it.
    It is a string so that a plan can be made, printed and stored without importing torch.
    """

    name: str
    what: str
    where: str
    why: str
    since: str
    door: str


def apply(patch: Patch) -> Undo:
    """Make the change and return a function that takes it back.

    Raises:
        PatchError: the door does not exist, or the other code is not as expected.
    """
    module, _, function = patch.door.partition(":")
    try:
        open_door: Callable[[], Undo] = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise PatchError(
            f"the patch {patch.name} cannot be applied: {error}",
            hint=f"install a version of {patch.where.split('.')[0]} inside the supported range",
            where=patch.door,
        ) from error
    return open_door()


@contextmanager
def applied(patches: Iterable[Patch]) -> Iterator[None]:
    """Apply the patches in order; undo them in reverse order at the end, whatever happened."""
    undo: list[Undo] = []
    try:
        undo.extend(apply(patch) for patch in patches)
        yield
    finally:
        for take_back in reversed(undo):
            take_back()
