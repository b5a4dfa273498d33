"""Models of one's own on the Hub, their weights in a ``.fwt`` file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from featherweight.errors import CheckpointError
from featherweight.files import load_model, save_file
from featherweight.interop.extras import require
from featherweight.interop.model_directory import COMPRESSED
from featherweight.recipe import Recipe

require("hf", ("huggingface_hub",), "CompressedModelHubMixin")

from huggingface_hub import ModelHubMixin, hf_hub_download  # noqa: E402


class CompressedModelHubMixin(ModelHubMixin, library_name="featherweight", tags=["featherweight"]):
    """``save_pretrained``, ``from_pretrained`` and ``push_to_hub``, as huggingface_hub has them.

    Example::

        class Net(nn.Module, CompressedModelHubMixin):
            def __init__(self, width: int = 64):
                ...

        net.push_to_hub("user/net")
        net = Net.from_pretrained("user/net")

    ``model.fwt`` holds the weights and ``config.json`` the arguments of ``__init__``. Weights that are
    pruned or share their values make it small; nothing is lost.

    Attributes:
        compression: a recipe that is applied when the model is saved, without data; none unless a subclass
            sets it.
    """

    compression: ClassVar[Recipe | None] = None

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write ``model.fwt``."""
        from featherweight.compression import compress

        if not isinstance(self, torch.nn.Module):
            raise TypeError(f"{type(self).__name__} is no torch.nn.Module")
        recipe = self.compression or Recipe()
        save_file(compress(self, recipe), save_directory / COMPRESSED, coder=recipe.code.coder)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        map_location: str = "cpu",
        proxies: dict[str, str] | None = None,
        resume_download: bool | None = None,
        **model_kwargs: Any,
    ) -> Self:
        """Make the module and load ``model.fwt`` into it; ties hold, and so do channels that are gone."""
        if Path(model_id).is_dir():
            file = Path(model_id) / COMPRESSED
            if not file.is_file():
                raise CheckpointError(f"{model_id}: holds no {COMPRESSED}; was it saved by save_pretrained?")
        else:
            file = Path(
                hf_hub_download(
                    repo_id=model_id,
                    filename=COMPRESSED,
                    revision=revision,
                    cache_dir=cache_dir,
                    force_download=force_download,
                    token=token,
                    local_files_only=local_files_only,
                )
            )
        model: Any = cls(**model_kwargs)
        load_model(model, file).to(map_location).eval()
        return model  # type: ignore[no-any-return]
