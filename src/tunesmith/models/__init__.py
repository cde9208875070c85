"""From a name to a module that is ready to be sharded, and back to files that others can read."""
