"""What the user asked for, as frozen typed sections. Imports pydantic and yaml, never torch."""
