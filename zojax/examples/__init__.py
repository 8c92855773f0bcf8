"""Examples on real data: `python -m zojax.examples.NAME --help`."""
