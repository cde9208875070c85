"""The only floor that sees the whole config and every part: prepare, plan, assemble, preflight, train."""
