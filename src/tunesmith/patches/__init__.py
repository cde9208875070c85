"""Every change we make to someone else's code, as dated data with a reason."""
