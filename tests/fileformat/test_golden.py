"""Files that were written once are read as they were meant, for ever."""

import json
import re
import sys
from pathlib import Path

import plain_decoder
import pytest
from samples import as_bytes

from featherweight.coding import CODERS, RAW_CODERS
from featherweight.errors import FormatError
from featherweight.fileformat import FileReader

GOLDEN = Path(__file__).parent.parent / "golden"
GOOD = json.loads((GOLDEN / "good.json").read_text())
BAD = json.loads((GOLDEN / "bad.json").read_text())

#: The modules of the plain decoder.
PLAIN = ["plain_decoder", "plain_streams", "plain_range", "plain_codebooks", "plain_context_decoder"]

sys.path.insert(0, str(GOLDEN))
from make_golden import make, note  # noqa: E402


@pytest.mark.parametrize("name", GOOD)
def test_good_files_are_decoded_exactly(name):
    with FileReader(GOLDEN / "good" / name) as reader:
        reader.verify()
        assert reader.metadata == GOOD[name]["metadata"]
        decoded = {tensor: note(*as_bytes(reader.read(tensor))) for tensor in reader.names}
    assert decoded == GOOD[name]["tensors"]


@pytest.mark.parametrize("name", GOOD)
def test_the_plain_decoder_gives_the_same(name):
    metadata, tensors = plain_decoder.decode((GOLDEN / "good" / name).read_bytes())
    assert metadata == GOOD[name]["metadata"]
    assert {tensor: note(*content) for tensor, content in tensors.items()} == GOOD[name]["tensors"]


def read_all(path, max_bytes):
    with FileReader(path, max_bytes=max_bytes) as reader:
        reader.check_total()
        reader.verify()


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_for_their_reason(name):
    path = GOLDEN / "bad" / name
    with pytest.raises(FormatError) as caught:
        read_all(path, BAD[name]["max_bytes"])
    assert re.search(BAD[name]["reason"], str(caught.value))
    assert str(caught.value).startswith(f"{path}: ")


def test_every_coder_has_a_good_file():
    coders = set()
    for name in GOOD:
        with FileReader(GOLDEN / "good" / name) as reader:
            coders |= {reader.info(tensor).coder for tensor in reader.names}
    assert coders == {*CODERS, *RAW_CODERS}, "write the missing files with `make golden` and commit them"


def test_no_file_is_left_out_of_the_lists():
    for kind, noted in (("good", GOOD), ("bad", BAD)):
        assert {path.name for path in (GOLDEN / kind).iterdir()} == set(noted)


def test_make_golden_can_be_run_again(tmp_path):
    make(tmp_path)
    assert json.loads((tmp_path / "bad.json").read_text()) == BAD
    assert json.loads((tmp_path / "good.json").read_text()) == GOOD
    for name in GOOD:
        assert (tmp_path / "good" / name).exists()


@pytest.mark.parametrize("name", PLAIN)
def test_the_plain_decoders_are_short_and_independent(name):
    source = Path(plain_decoder.__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 200
    assert "featherweight" not in source
    imported = set(re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE))
    assert imported <= {*sys.stdlib_module_names, *PLAIN}
