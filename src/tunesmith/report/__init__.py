"""What people look at. It is handed down as callables and callbacks, and never imported below."""
