"""The only floor that sees the whole config and every part, from prepare to export."""
