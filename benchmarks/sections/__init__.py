"""The sections of `python -m benchmarks`: one file a subject, with works, contestants and tables."""

from importlib import import_module

from benchmarks.sections.section import Section

FILES = (  # in the order of a run
    "steps",
    "costs",
    "growth",
    "worth",
    "device",
    "zoo",
    "attacks",
    "search",
    "start",
    "checks",
    "decoding",
    "methods",
    "scaling",
    "precision",
    "executors",
    "rewards",
)
SECTIONS: dict[str, Section] = {}
for _file in FILES:
    SECTIONS |= import_module(f"benchmarks.sections.{_file}").SECTIONS
