"""The frozen weights of language models, dealt out over the processes of a training (FSDP2)."""

from __future__ import annotations

from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from peftrec.config import InputError
from peftrec.launch import Ranks
from peftrec.methods import find_layers
from peftrec.models import RecommenderModel


def shard_backbones(model: RecommenderModel, ranks: Ranks) -> None:
    """Let each process hold its part of every frozen weight; a layer is put together while it computes.

    What a method trains is small, and stays whole in every process: its gradients are added up and its state is saved
    as without sharding. Layers speak to each other in every pass, so that from here on all processes encode equally
    many chunks at the same time (`TextEncoder.in_step`). There is no way back: what one process does alone it does with
    a model that is built anew.

    Args:
        model: on the CPU still, so that no device needs to hold it whole.
        ranks: the processes.
    Raises:
        InputError: if there is one process, or nothing that could be dealt out.
    """
    key = "training.shard_backbone"
    if ranks.alone:
        raise InputError(f"{key}: deals weights out over processes, but one was launched; launch several, or leave it")
    if model.profiles is not None:
        raise InputError(f"{key}: does not go with texts of users (profile); leave one of them out")
    encoder = model.text_encoder
    if encoder is None:
        raise InputError(f"{key}: this model reads ids alone; there is no language model to deal out")
    if encoder.config.quantization != "none":
        raise InputError(f"{key}: does not go with encoder.quantization={encoder.config.quantization}; choose one")
    parameters = list(encoder.model.parameters())
    trained = {parameter for parameter in parameters if parameter.requires_grad}
    if len(trained) == len(parameters):
        raise InputError(
            f"{key}: method '{encoder.method_config.kind}' trains every weight of the language model, so that nothing "
            f"is frozen that could be dealt out; leave it out, or choose another method"
        )
    mesh = init_device_mesh(ranks.device.type, (ranks.count,))
    for module in (*find_layers(encoder.model).layers, encoder.model):
        fully_shard(module, mesh=mesh, ignored_params=trained)
    encoder.in_step = True
