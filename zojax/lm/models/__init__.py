"""Language models in pure JAX: a config, a dict of arrays and a forward function each."""
