"""The launch configurations: Accelerate reads each as it is written, and `accelerate launch` would take it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import DynamoBackend

CONFIGS = sorted(Path(__file__).parents[1].glob("recipes/accelerate/*.yaml"))


def read(path: Path) -> Any:
    return load_config_from_file(str(path))


def test_there_are_configurations() -> None:
    assert {"cpu.yaml", "one_gpu.yaml", "multi_gpu.yaml", "multi_node.yaml"} <= {path.name for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_accelerate_reads_every_key(path: Path) -> None:
    """Its loader refuses keys that it does not know, at the top; what stands below is compared with its launcher's."""
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    config = read(path)
    assert isinstance(config, ClusterConfig)
    assert written.keys() <= {field.name for field in dataclasses.fields(ClusterConfig)}
    flags = {action.dest for action in launch_command_parser()._actions}
    for key, value in written.items():
        if isinstance(value, dict):
            prefix = "" if key == "dynamo_config" else key.removesuffix("config")
            for inner in value:
                name = inner if inner.startswith(prefix) else f"{prefix}{inner}"
                assert name in flags, f"{path.name}: {key}.{inner} is unknown to accelerate launch"
        else:
            assert getattr(getattr(config, key), "value", getattr(config, key)) == value, key
    backend = written.get("dynamo_config", {}).get("dynamo_backend", "NO")
    assert backend in DynamoBackend.list()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_none_asks_for_an_engine_that_is_refused(path: Path) -> None:
    assert read(path).distributed_type.value in ("NO", "MULTI_GPU", "MULTI_CPU", "FSDP")


def test_an_unknown_key_is_found(tmp_path: Path) -> None:
    """As in all of these files, by the loader itself."""
    path = tmp_path / "wrong.yaml"
    path.write_text(f"{CONFIGS[0].read_text(encoding='utf-8')}num_gpus: 4\n", encoding="utf-8")
    with pytest.raises(ValueError, match="num_gpus"):
        read(path)


def test_several_machines() -> None:
    config = read(next(path for path in CONFIGS if path.name == "multi_node.yaml"))
    assert (config.num_machines, config.num_processes, config.machine_rank) == (2, 16, 0)
    assert config.rdzv_backend == "static"
    assert config.main_process_ip
    assert config.main_process_port


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_what_needs_gpus_says_whether_it_was_run(path: Path) -> None:
    header = "".join(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    assert header, f"{path.name} says nothing of itself"
    if read(path).num_machines > 1:
        assert "Not run" in header
