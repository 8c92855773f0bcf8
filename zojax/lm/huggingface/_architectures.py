"""Architectures of `config.json`, by `model_type`."""

import pathlib
from collections.abc import Callable
from functools import partial

from zojax.lm.huggingface._bert_like import bert_like
from zojax.lm.huggingface._config_file import ConfigFile
from zojax.lm.huggingface._gguf import GGUF
from zojax.lm.huggingface._gpt_like import gpt2, opt
from zojax.lm.huggingface._llama_like import FAMILIES, llama_like
from zojax.lm.huggingface._stored import Architecture

ARCHITECTURES: dict[str, Callable[[ConfigFile], Architecture]] = {
    **{name: partial(llama_like, name=name) for name in FAMILIES},
    "gpt2": gpt2,
    "opt": opt,
    **{name: partial(bert_like, name=name) for name in ("bert", "roberta")},
}


def read_config(folder: pathlib.Path) -> tuple[ConfigFile, Architecture]:
    """The settings of a folder or GGUF file, and their architecture; raises ValueError if none fits."""
    if folder.suffix == ".gguf":
        settings = GGUF(folder).settings()
        return settings, architecture_of(settings)
    if not (folder / "config.json").exists():
        missing = "has no config.json" if folder.is_dir() else "is no folder"
        raise ValueError(f"{folder} {missing}; give a local Hugging Face folder.")
    settings = ConfigFile(folder / "config.json")
    return settings, architecture_of(settings)


def architecture_of(settings: ConfigFile) -> Architecture:
    """The architecture that settings describe; raises ValueError if none fits."""
    return ARCHITECTURES[settings.option("model_type", ARCHITECTURES)](settings)
