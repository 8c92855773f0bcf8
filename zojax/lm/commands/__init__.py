"""The commands of `python -m zojax.lm`, one a file."""
