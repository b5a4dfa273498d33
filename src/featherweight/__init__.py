"""Featherweight: trained PyTorch networks in files tens to hundreds of times smaller.

    import featherweight as fw

    fw.save_file(fw.compress(model, fw.Recipe.load("recipe.yaml")), "model.fwt")
    state_dict = fw.load_file("model.fwt")

Names are imported when first used, so that ``featherweight.numpy`` works without PyTorch and the command
line starts at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featherweight import hf as hf
    from featherweight.bit_allocation import choose_bits
    from featherweight.compression import compress, compress_lazily
    from featherweight.constraints import Constraints
    from featherweight.errors import (
        CheckpointError,
        DataError,
        FeatherweightError,
        FormatError,
        OutputError,
        RecipeError,
        TensorError,
    )
    from featherweight.files import load_file, load_model, open_file, save_file, save_model
    from featherweight.pruning import Schedule
    from featherweight.pruning.channels import prune_channels
    from featherweight.recipe import Budget, Code, Prune, Quantize, Recipe, Rule, Store
    from featherweight.tensors import QuantizedTensor
    from featherweight.training_steps import prune, share

__version__ = "0.1.0"

_HOMES = {
    "bit_allocation": ["choose_bits"],
    "compression": ["compress", "compress_lazily"],
    "constraints": ["Constraints"],
    "errors": [
        "CheckpointError",
        "DataError",
        "FeatherweightError",
        "FormatError",
        "OutputError",
        "RecipeError",
        "TensorError",
    ],
    "files": ["load_file", "load_model", "open_file", "save_file", "save_model"],
    "pruning": ["Schedule"],
    "pruning.channels": ["prune_channels"],
    "recipe": ["Budget", "Code", "Prune", "Quantize", "Recipe", "Rule", "Store"],
    "tensors": ["QuantizedTensor"],
    "training_steps": ["prune", "share"],
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Budget",
    "CheckpointError",
    "Code",
    "Constraints",
    "DataError",
    "FeatherweightError",
    "FormatError",
    "OutputError",
    "Prune",
    "Quantize",
    "QuantizedTensor",
    "Recipe",
    "RecipeError",
    "Rule",
    "Schedule",
    "Store",
    "TensorError",
    "choose_bits",
    "compress",
    "compress_lazily",
    "load_file",
    "load_model",
    "open_file",
    "prune",
    "prune_channels",
    "save_file",
    "save_model",
    "share",
]


def __getattr__(name: str) -> Any:
    if name == "hf":
        return importlib.import_module("featherweight.hf")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'featherweight' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"featherweight.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
