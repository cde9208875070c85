"""Facts about processes and devices, and the few collectives we use."""
