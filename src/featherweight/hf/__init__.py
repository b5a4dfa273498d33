"""Models of Hugging Face's libraries with their weights in a ``.fwt`` file.

    featherweight compress MODEL_DIR -o OUT_DIR

    model = featherweight.hf.from_pretrained("OUT_DIR")

A directory is what transformers writes, with ``model.fwt`` in the place of its weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from featherweight.hf.directories import compress_directory, push_to_hub, save_pretrained
from featherweight.hf.loading import from_pretrained

if TYPE_CHECKING:
    from featherweight.hf.mixin import CompressedModelHubMixin

__all__ = [
    "CompressedModelHubMixin",
    "compress_directory",
    "from_pretrained",
    "push_to_hub",
    "save_pretrained",
]


def __getattr__(name: str) -> Any:
    # The mixin is a subclass of huggingface_hub's, which need not be installed for the rest.
    if name != "CompressedModelHubMixin":
        raise AttributeError(f"module 'featherweight.hf' has no attribute {name!r}")
    from featherweight.hf.mixin import CompressedModelHubMixin

    return CompressedModelHubMixin
