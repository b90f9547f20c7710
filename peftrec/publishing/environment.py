"""What a run was made with: versions, machine, commit."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import peftrec

# Those of extras are left out where they are not installed.
_PACKAGES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "safetensors", "numpy", "polars")


def describe_environment() -> dict[str, Any]:
    """Return versions, machine and commit as plain values; nothing that names the user or a path."""
    import torch

    return {
        "peftrec": peftrec.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": _versions(),
        "machine": {
            "system": platform.system(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
    }


def _versions() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def _commit() -> str | None:
    """Return the commit of the checkout that the library runs from, `+` where it has uncommitted changes."""
    root = Path(peftrec.__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "--", "peftrec"], cwd=root, capture_output=True, text=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + "+" * bool(dirty)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
