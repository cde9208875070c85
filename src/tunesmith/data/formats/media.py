"""Images, videos and sounds in rows: refused by name, since nothing reads them yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tunesmith.data.records import RowError

_COLUMNS: Final = ("image", "images", "video", "videos", "audio", "audios")
_PARTS: Final = ("image", "video", "audio")
_PLACES: Final = ("path", "url", "image", "video", "audio", "image_url", "video_url", "audio_url")
_FIX: Final = "take the row out, or train on its text alone"
_LONGEST: Final = 80


def refuse_columns(row: Mapping[str, Any]) -> None:
    """Raise where a row brings images, videos or sounds beside its turns.

    Raises:
        RowError: naming the first of them.
    """
    for column in _COLUMNS:
        value = row.get(column)
        if value:
            first = value[0] if isinstance(value, list) else value
            raise _refused(column, column.removesuffix("s"), first)


def refuse_part(part: Mapping[str, Any], place: str) -> None:
    """Raise where a part of a turn is an image, a video or a sound.

    Raises:
        RowError: naming it.
    """
    kind = str(part.get("type", ""))
    for name in _PARTS:
        if kind in (name, f"{name}_url", f"input_{name}"):
            raise _refused(place, name, part)


def _refused(place: str, kind: str, value: Any) -> RowError:
    kinds = {"image": "images are", "video": "videos are", "audio": "sounds are"}
    return RowError(place, f"holds {_named(value)}, and {kinds[kind]} not built yet", _FIX)


def _named(value: Any) -> str:
    """The path or address that a value gives, cut where it is the data itself."""
    while isinstance(value, Mapping):
        value = next((value[name] for name in _PLACES if value.get(name)), None)
    if not isinstance(value, str):
        return "data"
    return repr(value if len(value) <= _LONGEST else f"{value[:_LONGEST]}...")
