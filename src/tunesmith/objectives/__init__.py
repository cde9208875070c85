"""One file, one loss: what it reads from a batch, and the summed loss it returns."""
