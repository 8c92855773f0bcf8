"""Measurements of zojax beside other libraries: `python -m benchmarks`.

A section (`sections/`) names works (`works.py`) and contestants (`contestants/`). The harness
(`harness.py`) runs each contestant in a process of its own (`worker.py`), in turns. The store (`store.py`)
keeps medians and quartiles under `results/`. `page.py` writes the tables of README.md from them.
"""
