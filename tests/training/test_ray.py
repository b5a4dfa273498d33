"""A sweep on a Ray cluster of two nodes, which this test starts and stops."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import pytest
from safetensors.torch import save_file as write_safetensors
from training_helpers import Small, network

from featherweight.analysis.sweep import Sweep
from featherweight.training.parallel import run_each
from featherweight.training.spec import ClassSpec, Phase, RunSpec
from featherweight.training.sweeping import SensitivityAnalysis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ray = pytest.importorskip("ray", reason="needs the extra ray")

#: Starting nodes and workers takes half a minute, and longer where the cores are busy.
pytestmark = pytest.mark.timeout(600)

SPEC = RunSpec(
    "small",
    model=ClassSpec("training_helpers.Small"),
    data=ClassSpec("featherweight.data.Digits", {"batch_size": 128}),
    optimizer=ClassSpec("torch.optim.SGD", {"momentum": 0.9}),
    fit=Phase(epochs=1, lr=0.05),
)
SWEEP = Sweep(layers=("fc1",), sparsities=(0.5, 0.9), bits=(2,), epochs=(0, 1), limit_batches=2)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80 << 20}
    with pytest.MonkeyPatch.context() as patch:
        # Workers find the tests' own modules; nobody is told that Ray is used.
        here = os.path.dirname(__file__)  # noqa: PTH120
        patch.setenv("PYTHONPATH", os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray warns of its own future
        nodes = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
        try:
            nodes.add_node(**small)
            ray.init(address=nodes.address, logging_level=logging.ERROR, log_to_driver=False)
            yield
        finally:
            ray.shutdown()
            nodes.shutdown()


def node_of(number: int) -> str:
    return str(ray.get_runtime_context().get_node_id())


def test_both_nodes_of_a_cluster_work_and_find_what_this_process_finds(cluster: None, tmp_path: Path) -> None:
    assert len({node for _, node in run_each(node_of, range(8), backend="ray")}) == 2

    weights = tmp_path / "trained.safetensors"
    write_safetensors(network(Small).state_dict(), weights)
    found = []
    for backend, jobs in (("ray", -1), ("loky", 1)):
        job = SensitivityAnalysis(SPEC, SWEEP, tmp_path / backend, weights=weights)
        job.prepare()
        assert len(list(job.measure(jobs=jobs, backend=backend))) == 3
        found.append(job.results())
    assert found[0] == found[1]
    assert ray.is_initialized()  # a cluster that was there before is left running
