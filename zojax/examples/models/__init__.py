"""Models of the examples: a config, a dict of arrays and a forward function each."""
