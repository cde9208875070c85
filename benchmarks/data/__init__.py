"""Preparing data: memory, speed, fullness of packed rows."""
