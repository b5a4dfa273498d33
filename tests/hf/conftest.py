"""Directories of small models as transformers writes them, and compressed."""

from __future__ import annotations

import json
import logging

import pytest
import transformers
from hf_models import KINDS, build


@pytest.fixture(autouse=True, scope="package")
def offline():
    """No test may reach the network; and transformers' reports are not ours."""
    patch = pytest.MonkeyPatch()
    patch.setenv("HF_HUB_OFFLINE", "1")
    patch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    level = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    yield
    transformers.utils.logging.set_verbosity(level)
    patch.undo()


@pytest.fixture(scope="package")
def originals(tmp_path_factory):
    """Directories of the three models, by kind, with a tokenizer's files and what does not belong."""
    made = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        build(kind).save_pretrained(folder)
        (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0"}))
        (folder / "vocab.txt").write_text("[PAD]\n")
        (folder / "extra").mkdir()
        (folder / "extra" / "note.md").write_text("a note")
        (folder / "extra" / "weights.safetensors").write_bytes(b"not wanted")
        (folder / "training_args.bin").write_bytes(b"a pickle")
        (folder / ".cache").mkdir()
        (folder / ".cache" / "x.json").write_text("{}")
        made[kind] = folder
    return made


@pytest.fixture(scope="package")
def compressed(originals, tmp_path_factory):
    """The same, compressed by the command line."""
    from featherweight.cli import main

    folder = tmp_path_factory.mktemp("compressed")
    for kind, original in originals.items():
        assert main(["compress", str(original), "-o", str(folder / kind), "--quiet"]) == 0
    return {kind: folder / kind for kind in originals}
