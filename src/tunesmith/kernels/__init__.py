"""Pure tensor functions, each with a plain torch reference; they know no model and no config."""
