"""Words to calls: the commands of ``tunesmith``. Nothing is decided here."""
