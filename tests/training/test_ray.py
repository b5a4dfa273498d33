"""A sweep on a Ray cluster of two nodes, which this test starts and stops."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import ray
from safetensors.torch import save_file as write_safetensors
from training_helpers import Small, network

from featherweight.analysis.sweep import Point, Row, Sweep
from featherweight.training.sensitivity import Task, measure
from featherweight.training.spec import ClassSpec, Phase, RunSpec
from featherweight.training.sweeping import SensitivityAnalysis

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Starting nodes and workers takes half a minute, and longer where the cores are busy.
pytestmark = pytest.mark.timeout(900)

#: Environment variable that names the folder where nodes sign.
NODES = "FEATHERWEIGHT_TEST_NODES"

SPEC = RunSpec(
    "small",
    model=ClassSpec("training_helpers.Small"),
    data=ClassSpec("featherweight.data.Digits", {"batch_size": 128}),
    optimizer=ClassSpec("torch.optim.SGD", {"momentum": 0.9}),
    fit=Phase(epochs=1, lr=0.05),
)
SWEEP = Sweep(layers=("fc1",), sparsities=(0.5, 0.7, 0.9), bits=(2, 3), epochs=(0, 1), limit_batches=2)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Path]:
    """A folder in which every node that works leaves a file of its name."""
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80 << 20}
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ray") as session:
        # Workers find the tests' own modules; nobody is told that Ray is used.
        here = os.path.dirname(__file__)  # noqa: PTH120
        patch.setenv("PYTHONPATH", os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray warns of its own future
        patch.setenv("RAY_worker_niceness", "0")  # else, where the cores are busy, workers wait for minutes
        patch.setenv(NODES, str(tmp_path))
        # Ray's sockets need a shorter path than tmp_path.
        head = {**small, "include_dashboard": False, "temp_dir": session}
        nodes = Cluster(initialize_head=True, head_node_args=head)
        try:
            nodes.add_node(**small)
            ray.init(address=nodes.address, logging_level=logging.ERROR, log_to_driver=False)
            yield tmp_path
        finally:
            ray.shutdown()
            nodes.shutdown()


def measure_and_sign(job: tuple[Task, Point]) -> list[Row]:
    Path(os.environ[NODES], f"{ray.get_runtime_context().get_node_id()}.node").touch()
    return measure(job)


def test_both_nodes_of_a_cluster_work_and_find_what_this_process_finds(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = cluster / "trained.safetensors"
    write_safetensors(network(Small).state_dict(), weights)
    alone = SensitivityAnalysis(SPEC, SWEEP, cluster / "alone", weights=weights)
    alone.prepare()
    assert len(list(alone.measure(jobs=1))) == 5

    monkeypatch.setattr("featherweight.training.sweeping.measure", measure_and_sign)
    together = SensitivityAnalysis(SPEC, SWEEP, cluster / "together", weights=weights)
    together.prepare()
    assert len(list(together.measure(backend="ray"))) == 5
    assert together.results() == alone.results()
    assert len(list(cluster.glob("*.node"))) == 2
    assert ray.is_initialized()  # a cluster that was there before is left running
