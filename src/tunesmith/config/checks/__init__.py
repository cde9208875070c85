"""Rules across sections: pure functions of the config, and of the machine where it is known."""
