"""The probes: what can be wrong with this run is looked for before it costs anything."""
