from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from html import unescape
from typing import TYPE_CHECKING

import matplotlib.image
import numpy as np
import pytest
from report_samples import SCRIPT, SHAPES, make_run, network, odd_tensors, raw, shared, sweep

from featherweight.analysis.curves import COLUMNS, Epoch, read_curves
from featherweight.analysis.png import encode_png
from featherweight.analysis.report import report_page, write_report
from featherweight.analysis.report_charts import waterfall
from featherweight.analysis.report_curves import sensitivity_panels, training_panels
from featherweight.analysis.report_layers import BINS, density_grid, look_at, picture_size, strengths
from featherweight.analysis.report_source import gather
from featherweight.analysis.sizes import measure_file, measure_tensor
from featherweight.analysis.text import byte_count, natural_order, shortened
from featherweight.errors import FeatherweightError, FormatError, OutputError, RecipeError
from featherweight.fileformat import FileReader, write_file
from featherweight.tensors import QuantizedTensor, RawTensor

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "made")


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return report_page(gather(run))


def layer_of(tensor: RawTensor | QuantizedTensor, tmp_path: Path, dense: np.ndarray | None = None):
    write_file(tmp_path / "one.fwt", {"w": tensor}, coder="fixed")
    with FileReader(tmp_path / "one.fwt") as reader:
        read = reader.read("w")
        sizes = measure_tensor(reader.info("w"), read)
    return look_at(sizes, read, None if dense is None else lambda: dense)


# -- the page -----------------------------------------------------------------------------------------


def test_the_headline_has_the_results_figures(run: Path, page: str) -> None:
    result = json.loads((run / "result.json").read_text())
    figures = re.findall(r'class="figure">([^<]+)<', page)
    kept = sum(t.nonzero for t in network().values() if isinstance(t, QuantizedTensor))
    total = 300 * 400 + sum(int(np.prod(shape)) for shape in SHAPES.values())
    assert figures == [
        f"{result['ratio']:.1f}×",
        f"{result['bytes'] / 1000:.2f} kB",
        "96.75 %",
        f"{100 * kept / total:.1f} %",
    ]
    assert "97.50 % dense; error 2.50 → 3.25 %" in page
    assert "<dt>test accuracy</dt>" in page


def test_recipe_and_command_are_there_as_text(page: str) -> None:
    assert "featherweight run recipes/made.yaml" in page
    assert "class_path: some.Network\n# &lt;b&gt;&amp;amp;\n" in page


def test_it_asks_no_host_and_allows_no_foreign_script(page: str) -> None:
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "http" not in re.sub(r'http-equiv="Content-Security-Policy"', "", page)
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]+)"', page)
    assert "default-src &#39;none&#39;" in policy
    assert "unsafe" not in policy
    assert "style=" not in re.sub(r"<style>.*?</style>", "", page, flags=re.S)


def test_the_same_run_has_the_same_page(run: Path, page: str) -> None:
    assert report_page(gather(run)) == page


def test_every_section_that_a_run_has(page: str) -> None:
    headings = re.findall(r"<h2[^>]*>([^<]+)<", page)
    assert headings == [
        "Where the bytes went", "Layer by layer", "Weights", "Training", "Sensitivity", "How it was made",
    ]  # fmt: skip
    assert page.count('class="density"') == 4
    assert page.count('class="before" d=') == 4


def test_a_file_alone_tells_what_it_can(run: Path) -> None:
    page = report_page(gather(run / "made.fwt"))
    headings = re.findall(r"<h2[^>]*>([^<]+)<", page)
    assert headings == ["Where the bytes went", "Layer by layer", "Weights"]
    assert "accuracy" not in re.sub(r"<style>.*?</style>", "", page, flags=re.S)
    assert 'class="before" d=' not in page
    assert page.count('class="density"') == 4


def test_a_file_alone_needs_no_pytorch(run: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from featherweight.analysis.report import write_report; "
        f"write_report(Path({str(run / 'made.fwt')!r}), Path({str(tmp_path / 'r.html')!r})); "
        "sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert (tmp_path / "r.html").stat().st_size > 10_000


# -- odd and hostile files ----------------------------------------------------------------------------


def test_odd_tensors_all_have_a_row_and_no_text_becomes_markup(tmp_path: Path) -> None:
    write_file(tmp_path / "odd.fwt", odd_tensors(), metadata={SCRIPT: SCRIPT, "big": "x" * 100_000})
    page = report_page(gather(tmp_path / "odd.fwt"))
    assert len(re.findall(r"<tr><th scope=\"row\"", page)) == len(odd_tensors()) + 1  # and the total
    assert page.count("<script") == 1
    assert "<img src=x" not in page
    assert SCRIPT in unescape(page)
    assert len(page) < 200_000
    assert "tied to <bdi>one value</bdi>" in page
    assert "line\\nbreak \\u202e \\x1b[31m" in page
    assert "3 not finite" in page


def test_no_tensors_at_all(tmp_path: Path) -> None:
    write_file(tmp_path / "none.fwt", {})
    page = report_page(gather(tmp_path / "none.fwt"))
    assert "The file holds no tensors." in page


@pytest.mark.parametrize("name", ["<b>.fwt", "a&b.fwt"])
def test_the_name_of_the_file_is_escaped_too(tmp_path: Path, name: str) -> None:
    write_file(tmp_path / name, {})
    page = report_page(gather(tmp_path / name))
    assert (
        f"<h1><bdi>{name.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')}</bdi></h1>" in page
    )


def test_more_tensors_than_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featherweight.analysis.report.MOST_ROWS", 3)
    tensors = {f"t{i}": raw(np.random.default_rng(i).random(i + 1)) for i in range(10)}
    write_file(tmp_path / "many.fwt", tensors)
    page = report_page(gather(tmp_path / "many.fwt"))
    assert re.findall(r'<th scope="row"><bdi>(t\d)</bdi>', page) == ["t7", "t8", "t9"]
    assert "7 further tensors, none larger than these" in page


@pytest.mark.slow
def test_a_file_of_the_size_of_alexnet(tmp_path: Path) -> None:
    shapes = {"conv": (256, 3456), "fc6": (4096, 9216), "fc7": (4096, 4096), "fc8": (1000, 4096)}
    tensors = {name: shared(shape, 32, 0.89, i) for i, (name, shape) in enumerate(shapes.items())}
    write_file(tmp_path / "alexnet.fwt", tensors, coder="rans")
    assert write_report(tmp_path / "alexnet.fwt", tmp_path / "r.html") < 3_000_000


# -- what cannot be reported ---------------------------------------------------------------------------


def test_a_directory_that_is_no_run(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"holds no run \(run.yaml is missing\); give the directory"):
        gather(tmp_path)
    with pytest.raises(RecipeError, match="it holds a sensitivity analysis"):
        gather(run / "sensitivity")
    write_file(tmp_path / "some.fwt", {})
    with pytest.raises(RecipeError, match=r"give a file of it, such as .*some\.fwt"):
        gather(tmp_path)


@pytest.mark.parametrize("text", ["name: other\n", "seed: 1\n", "name: ../made/made\n"])
def test_a_run_that_is_not_finished(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(RecipeError, match=r"is not finished .*featherweight run --resume .* goes on with it"):
        gather(tmp_path)


def test_what_is_no_file_of_ours(tmp_path: Path) -> None:
    (tmp_path / "x.fwt").write_bytes(b"something else")
    with pytest.raises(FormatError, match=r"x\.fwt: is not a \.fwt file"):
        gather(tmp_path / "x.fwt")
    with pytest.raises(FeatherweightError, match=r"absent\.fwt: cannot be opened"):
        gather(tmp_path / "absent.fwt")


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"bytes": "x"}', '{"bytes": 1, "dense_bytes": NaN}'])
def test_a_damaged_result_is_told(tmp_path: Path, text: str) -> None:
    run = make_run(tmp_path / "run")
    (run / "result.json").write_text(text)
    with pytest.raises(FormatError, match=r"result\.json: is no result of a run .*--resume"):
        gather(run)


def test_a_run_without_the_test_tells_its_validation_accuracy(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "result.json").rename(run / "validation.json")
    page = report_page(gather(run))
    assert "<dt>validation accuracy</dt>" in page
    assert ">96.75 %</dd>" in page


def test_a_result_of_another_file_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = make_run(tmp_path / "run")
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps({**result, "bytes": result["bytes"] + 1}))
    assert gather(run).result == {}
    assert "tells of a file of other size" in caplog.text


def test_a_damaged_sweep_or_dense_network_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(tmp_path / "run")
    whole = (run / "sensitivity" / "sensitivity.json").read_text()
    (run / "sensitivity" / "sensitivity.json").write_text('{"rows": 3}')
    (run / "other").mkdir()
    (run / "other" / "sensitivity.json").write_text(whole.replace('"sparsity": 0.9', '"sparsity": 1.0'))
    (run / "fit.safetensors").write_bytes(b"nonsense")
    (run / "metrics.csv").write_text("phase,epoch\nfit,one\nfit,2,3\n")
    source = gather(run)
    assert (source.sweeps, source.epochs) == ([], [Epoch("fit", 2)])
    assert "no results of featherweight sensitivity" in caplog.text
    assert "holds figures that make no sense" in caplog.text
    assert "the report goes without the weights before" in caplog.text
    assert 'class="before" d=' not in report_page(source)


def test_a_page_is_not_overwritten_unasked(run: Path, tmp_path: Path) -> None:
    (tmp_path / "r.html").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        write_report(run / "made.fwt", tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text() == "mine"
    size = write_report(run / "made.fwt", tmp_path / "r.html", overwrite=True)
    assert (tmp_path / "r.html").stat().st_size == size


# -- figures ------------------------------------------------------------------------------------------


def test_the_waterfall_by_hand(tmp_path: Path) -> None:
    indices = np.zeros((10, 10), np.uint8)
    indices[0] = 1
    tensors = {
        "a": QuantizedTensor(indices, np.array([0, 0.5, 1], np.float32)),
        "b": raw(np.array([1, 0, 0, 0], np.float32)),
    }
    size = write_file(tmp_path / "w.fwt", tensors, coder="fixed")
    with FileReader(tmp_path / "w.fwt") as reader:
        steps = waterfall(measure_file(reader), 1000)
    # Ten values of 32 bits with gaps of 1 bit, 2 bits of code; the codebook of 3. Of b a value and a mask.
    expected = [1000, -(-(10 * 33 + 36) // 8), -(-(10 * 3 + 3 * 32 + 36) // 8), size]
    assert [step.bytes for step in steps] == expected
    assert [step.name for step in steps] == ["dense", "pruned", "shared", "coded"]
    assert [step.before for step in steps] == [1000, *expected[:-1]]
    assert steps[1].ratio == f"{1000 / expected[1]:.1f}× smaller"
    assert steps[1].factor == ""
    assert steps[2].factor == f"{expected[1] / expected[2]:.2f}× by this step"
    assert steps[3].factor == ""  # so small a file is larger than what it holds


@pytest.mark.parametrize("shape", [(7, 11), (144, 288), (145, 289), (1, 5000), (700, 3)])
def test_density_against_single_cells(shape: tuple[int, int]) -> None:
    there = np.random.default_rng(0).random(shape) < 0.3
    density = density_grid(there)
    rows, columns = min(shape[0], 144), min(shape[1], 288)
    assert density.shape == (rows, columns)
    for i in {0, rows // 2, rows - 1}:
        for j in {0, columns // 3, columns - 1}:
            block = there[
                i * shape[0] // rows : (i + 1) * shape[0] // rows,
                j * shape[1] // columns : (j + 1) * shape[1] // columns,
            ]
            assert density[i, j] == pytest.approx(block.mean())


def test_strengths_tell_sparse_from_empty() -> None:
    levels, fullest = strengths(np.array([[0, 1e-6, 0.125, 0.5]]), 16)
    assert levels.tolist() == [[0, 1, 8, 15]]
    assert fullest == 0.5
    assert strengths(np.array([[0.01, 0.0625]]), 16)[0].tolist() == [[3, 8]]
    assert strengths(np.zeros((2, 2)), 16)[0].tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("shape", [(1, 1), (3, 4), (5, 7)])
def test_png_against_another_decoder(shape: tuple[int, int]) -> None:
    levels = np.random.default_rng(1).integers(0, 16, shape).astype(np.uint8)
    image = matplotlib.image.imread(io.BytesIO(encode_png(levels, (38, 132, 184))), format="png")
    assert image.shape == (*shape, 4)
    assert np.allclose(image[..., 3], levels / 15, atol=1 / 255)
    assert np.allclose(image[..., :3], np.array([38, 132, 184]) / 255, atol=1 / 255)


def test_pictures_keep_within_their_place() -> None:
    assert picture_size(144, 288) == (320, 160)
    assert picture_size(10, 100) == (320, 32)
    assert picture_size(1, 288) == (320, 12)
    width, height = picture_size(144, 3)
    assert (width, height) == (80, 160)


def test_histogram_of_plain_weights_against_numpy(tmp_path: Path) -> None:
    weights = np.random.default_rng(2).normal(size=(50, 40)).astype(np.float32)
    weights[:10] = 0
    weights[20, 3] = np.nan
    layer = layer_of(raw(weights), tmp_path)
    assert layer.histogram is not None
    limit = layer.histogram.limit
    finite = weights[np.isfinite(weights) & (weights != 0)].astype(np.float64)
    assert limit == pytest.approx(np.quantile(np.abs(finite), 0.999))
    inside = finite[np.abs(finite) <= limit]
    expected = np.histogram(inside, bins=BINS, range=(-limit, limit))[0]
    assert layer.histogram.after.tolist() == expected.tolist()
    assert layer.histogram.outside == finite.size - inside.size
    assert layer.not_finite == 1


def test_histogram_of_shared_weights_counts_each_value(tmp_path: Path) -> None:
    tensor = shared((30, 20), 6, 0.5, 3)
    dense = np.random.default_rng(4).normal(size=(30, 20)).astype(np.float32)
    histogram = layer_of(tensor, tmp_path, dense).histogram
    assert histogram is not None
    values, counts = np.unique(tensor.dequantize(), return_counts=True)
    assert histogram.values is not None
    assert histogram.counts is not None
    assert np.allclose(histogram.values, values[values != 0])
    assert histogram.counts.tolist() == counts[values != 0].tolist()
    assert histogram.before is not None
    assert histogram.before.sum() == np.count_nonzero(np.abs(dense) <= histogram.limit)


def test_curves_of_training(run: Path) -> None:
    epochs = read_curves(run / "metrics.csv")
    assert len(epochs) == 20
    assert epochs[10] == Epoch("prune", 1, 2 / 11, 2.2 / 11, 100 - 30 / 11, 9.5)
    panels = training_panels(epochs)
    assert [panel.title for panel in panels] == ["Loss", "Validation accuracy, %", "Weights pruned, %"]
    assert panels[0].svg.count('class="curve') == 2
    assert all(f">{phase}</text>" in panels[0].svg for phase in ("fit", "prune"))
    assert training_panels([]) == []
    assert [panel.title for panel in training_panels([Epoch("fit", 1, 0.5)])] == ["Loss"]
    assert training_panels([Epoch("fit", 1)]) == []


def test_curves_of_any_figures_can_be_drawn(tmp_path: Path) -> None:
    rows = ["fit,1,1e308,nan,-5,200", "fit,2,0,inf,100,0", "x,3,1e-300,1e29,1e20,-1", "x,4,,,,"]
    (tmp_path / "metrics.csv").write_text("\n".join([",".join(COLUMNS), *rows]))
    epochs = read_curves(tmp_path / "metrics.csv")
    assert [epoch.train_loss for epoch in epochs] == [None, 0, 1e-300, None]
    assert len(training_panels(epochs)) == 3


def test_curves_of_sensitivity() -> None:
    panels = sensitivity_panels(sweep())
    assert [panel.title for panel in panels] == ["magnitude, no retraining", "kmeans, no retraining"]
    for panel in panels:
        assert panel.svg.count('class="curve') == 4
        assert ">whole network</text>" in panel.svg
        assert ">dense 97.50</text>" in panel.svg


# -- words --------------------------------------------------------------------------------------------


def test_words() -> None:
    assert [byte_count(size) for size in (0, 999, 1000, 12_944, 999_600, 1_066_440, 61e9)] == [
        "0 B", "999 B", "1.00 kB", "12.9 kB", "1.00 MB", "1.07 MB", "61.0 GB",
    ]  # fmt: skip
    assert sorted(["conv10", "conv2", "Conv1", "a²"], key=natural_order) == ["a²", "Conv1", "conv2", "conv10"]
    assert shortened("abc", 5) == "abc"
    assert shortened("a" * 50 + "b" * 50, 9) == "aaaaa…bbb"
