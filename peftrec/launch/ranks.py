"""The processes that train together, and what they tell each other.

Shapes: C items of a step, H width of their vectors.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import nn
from torch.distributed.tensor import DTensor

from peftrec.launch.roll_call import arrivals, together


class Ranks:
    """The processes of a launch; alone, nothing is sent and everything is one's own.

    Whatever is asked of one is asked of all in the same order, however few users or items a process has: nothing here
    hangs on what a process holds.

    Args:
        index: of this process, from 0.
        count: of all.
        device: that tensors are sent from.
        hosts: the group that speaks over the CPUs, whatever the device; None is the group of all.
        arrivals: a store that counts how often each process has come to where they meet; None counts nothing.
    """

    def __init__(
        self,
        index: int = 0,
        count: int = 1,
        device: torch.device | None = None,
        hosts: dist.ProcessGroup | None = None,
        arrivals: Any = None,
    ) -> None:
        self.index, self.count, self.hosts, self.arrivals = index, count, hosts, arrivals
        self.device = torch.device("cpu") if device is None else device

    @classmethod
    def of(cls, accelerator: Any, timeout_seconds: float = 1800.0) -> Ranks:
        """Return those of an Accelerator; all processes ask together.

        Args:
            accelerator: of Accelerate.
            timeout_seconds: how long to wait for a process; counts where this is the first call.
        """
        count = accelerator.num_processes
        hosts = _hosts(dist.group.WORLD, timeout_seconds) if count > 1 else None
        return cls(accelerator.process_index, count, accelerator.device, hosts, arrivals() if count > 1 else None)

    @property
    def alone(self) -> bool:
        """Whether there is one process."""
        return self.count == 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes what is written once."""
        return self.index == 0

    def rows(self, number: int) -> tuple[int, int]:
        """Return first row and end of this process among so many, which are dealt out evenly; a part may be empty."""
        return number * self.index // self.count, number * (self.index + 1) // self.count

    def shares(self, sizes_C: torch.Tensor) -> list[torch.Tensor]:
        """Deal items out, so that every process has about the same work; the same on all of them.

        The largest first, back and forth over the processes.

        Args:
            sizes_C: of each item, such as the tokens of its text.
        Returns:
            For each process the places of its items, ascending.
        """
        order = torch.argsort(sizes_C, descending=True, stable=True)
        turn = torch.arange(len(order)) % (2 * self.count)
        owner = torch.where(turn < self.count, turn, 2 * self.count - 1 - turn)
        return [order[owner == index].sort().values for index in range(self.count)]

    def total(self, values: Sequence[float]) -> list[float]:
        """Return the sum over all processes of each value."""
        if self.alone:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64)
        with together(self):
            dist.all_reduce(sums, group=self.hosts)
        return [float(value) for value in sums]

    def most(self, value: int) -> int:
        """Return the largest value of all processes."""
        if self.alone:
            return value
        largest = torch.tensor(value)
        with together(self):
            dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=self.hosts)
        return int(largest)

    def same(self, values: Sequence[float]) -> list[float]:
        """Return the values of the first process, so that all decide alike."""
        if self.alone:
            return list(values)
        told = torch.tensor(values, dtype=torch.float64)
        with together(self):
            dist.broadcast(told, src=0, group=self.hosts)
        return [float(value) for value in told]

    def gather(self, own_KH: torch.Tensor, shares: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the rows of all processes, each in its place, shape (C, H).

        Args:
            own_KH: of this process.
            shares: places of each process's rows.
        """
        if self.alone:
            return own_KH
        width = max(len(share) for share in shares)
        padded = own_KH.new_zeros(width, own_KH.shape[1])
        padded[: len(own_KH)] = own_KH
        sent = [torch.empty_like(padded) for _ in shares]
        with together(self):
            dist.all_gather(sent, padded)
        found_CH = own_KH.new_empty(sum(len(share) for share in shares), own_KH.shape[1])
        for share, rows in zip(shares, sent, strict=True):
            found_CH[share.to(found_CH.device)] = rows[: len(share)]
        return found_CH

    def joined(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the rows of all processes, those of the first process first, shape (sum of R, ...).

        Args:
            rows: of this process, shape (R, ...); R may be 0, all else is the same everywhere.
        """
        if self.alone:
            return rows
        own = torch.from_numpy(np.ascontiguousarray(rows))
        counts = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
        with together(self):
            dist.all_gather(counts, torch.tensor([len(own)]), group=self.hosts)
            padded = own.new_zeros(max(int(count) for count in counts), *own.shape[1:])
            padded[: len(own)] = own
            sent = [torch.empty_like(padded) for _ in counts]
            dist.all_gather(sent, padded, group=self.hosts)
        return torch.cat([part[: int(count)] for part, count in zip(sent, counts, strict=True)]).numpy()

    def add(self, tensor: torch.Tensor) -> None:
        """Add up a tensor over all processes, in place."""
        if not self.alone:
            with together(self):
                dist.all_reduce(tensor)

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add up gradients over all processes, in one reduction for each type of number.

        A process that has none for a parameter counts as zeros; where no process has one, there is none.

        Args:
            parameters: the same ones in the same order in all processes.
        """
        if self.alone or not parameters:
            return
        there = self.total([float(parameter.grad is not None) for parameter in parameters])
        moved = [parameter for parameter, has in zip(parameters, there, strict=True) if has]
        for dtype in dict.fromkeys(parameter.dtype for parameter in moved):
            alike = [parameter for parameter in moved if parameter.dtype == dtype]
            for parameter in alike:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            flat = torch.cat([_gradient(parameter).flatten() for parameter in alike])
            self.add(flat)
            start = 0
            for parameter in alike:
                _gradient(parameter).copy_(flat[start : start + parameter.numel()].view_as(parameter))
                start += parameter.numel()

    def begin_alike(self, module: nn.Module, seed: int) -> None:
        """Give all processes the weights of the first, and each a stream of random numbers of its own.

        Args:
            module: of the same shapes everywhere.
            seed: of the run; the first process keeps its stream, so that one process alone is a launch of one.
        """
        if self.alone:
            return
        with torch.no_grad():
            for tensor in (*module.parameters(), *module.buffers()):
                if isinstance(tensor, DTensor):
                    continue  # a frozen weight that is dealt out already
                sent = tensor.detach().to(self.device).contiguous()
                with together(self):
                    dist.broadcast(sent, src=0)
                if sent.data_ptr() != tensor.data_ptr():
                    tensor.copy_(sent)
        if not self.is_first:
            torch.manual_seed(seed + 1_000_003 * self.index)


@functools.cache
def _hosts(world: dist.ProcessGroup, timeout_seconds: float) -> dist.ProcessGroup:
    """Return the group that says small things between CPUs, whatever the device."""
    assert world is not None, "several processes have a group"
    group: dist.ProcessGroup = dist.new_group(backend="gloo", timeout=datetime.timedelta(seconds=timeout_seconds))
    return group


def _gradient(parameter: nn.Parameter) -> torch.Tensor:
    assert parameter.grad is not None, "a gradient has been put there"
    return parameter.grad
