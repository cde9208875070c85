"""Section ``plugins``: modules that add parts of their own."""

from __future__ import annotations

from tunesmith.config.section import Section, key


class PluginsSection(Section):
    """Which plugins to load. Their code runs as soon as the config is read."""

    names: tuple[str, ...] = key(
        (),
        "Python modules with a function `register(registries)`, imported when the config is read.",
        flat="plugins",
        readers="tunesmith.config.read",
    )
