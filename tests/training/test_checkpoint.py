"""Checkpoints: a run that goes on is the run that never stopped, and what is damaged is named and passed over."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from peftrec.config import InputError
from peftrec.training import TrainingStopped
from peftrec.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from peftrec.training.checkpoint_folder import CheckpointFolder
from peftrec.training.snapshot import CHECKPOINTS
from peftrec.training.state import TrainingState


class KilledError(Exception):
    """Stands for a kill."""


def judged(model: Any) -> dict[str, float]:
    """A metric that hangs on every weight, so that the best epoch does too, and that goes up and down."""
    total = sum(float(tensor.double().sum()) for tensor in model.trained_state().values())
    return {"ndcg@10": abs(math.sin(1000 * total))}


RESUMED = {
    "plain": (),
    "interval": ("method.layers=1", "training.encoder_interval=2"),
    "ids": ("training.warmup_frozen_epochs=1", "encoder.inputs=text+ids", "encoder.id_dropout=0.2"),
    "cached": ("loss.kind=in_batch_softmax", "training.graph_memory_mib=0", "training.accumulation_steps=2"),
    "sampled": ("loss={kind: sampled_softmax, negatives: {kind: popularity, num: 8}}",),
    "hard": (
        # Every fourth batch, so that a run which goes on in between needs the table that it had.
        "loss={kind: sampled_softmax, negatives: {kind: hard, num: 4, per_user: 1, depth: 4, refresh_batches: 4}}",
        "profile={max_tokens: 32, item_tokens: 4, attribute_tokens: 4}",
    ),
    "bpr": ("loss={kind: bpr, per_position: 2, negatives: {kind: uniform, num: 8}}", "training.accumulation_steps=2"),
    "margin": ("loss={kind: bce}",),
    "adalora": ("method.kind=adalora", "method.initial_rank=4", "method.target_rank=2", "method.final_share=0.8"),
    "profile": ("profile={max_tokens: 32, item_tokens: 4, attribute_tokens: 4}", "training.encoder_interval=2"),
    "own_profile": (
        "profile={method: null, max_tokens: 32, item_tokens: 4, attribute_tokens: 4}",
        "training.warmup_frozen_epochs=1",
    ),
    "augmented": ("training.augmentation={mask: {probability: 0.7, ratio: 0.3}}",),
}
DROPOUT = ("method.dropout=0.2", "encoder.dropout=0.2", "user.dropout=0.2", "encoder.token_budget=40")


def kill_before(trainer: Any, step: int) -> None:
    """End a training when it is about to make a step, counted from 0."""
    stepped = trainer.stepper.step

    def step_or_die(state: Any, **words: Any) -> None:
        if state.step == step:
            raise KilledError
        stepped(state, **words)

    trainer.stepper.step = step_or_die


# The rest take what these do, with other losses and texts.
QUICK = ("plain", "ids", "cached", "adalora")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in RESUMED]
)
def test_a_stopped_run_goes_on_to_the_same_weights(
    name: str, make_recipe: Callable[..., Any], prepare: Callable[..., Any], tmp_path: Path
) -> None:
    """Killed again and again, within epochs and at their ends, it comes to the very same losses and weights."""
    recipe = make_recipe(
        "training.num_epochs=3", "training.batch_users=8", "training.checkpoint_steps=2", *DROPOUT, *RESUMED[name]
    )
    whole = prepare(recipe, evaluate=judged)
    expected = whole.trainer.train()
    steps = whole.trainer.steps_per_epoch
    assert steps > 3
    kills = [steps - 1, steps + 3, 2 * steps]  # in the first epoch, in the second, at the end of the second
    for number, kill in enumerate(kills):
        stopped = prepare(recipe, evaluate=judged, folder=tmp_path)
        kill_before(stopped.trainer, kill)
        with pytest.raises(KilledError):
            stopped.trainer.train(resume=number > 0)
        torch.manual_seed(999)
    again = prepare(recipe, evaluate=judged, folder=tmp_path)
    result = again.trainer.train(resume=True)
    assert (result.best_epoch, result.num_steps, result.start) == (
        expected.best_epoch,
        expected.num_steps,
        expected.start,
    )
    for key in ("loss", "ndcg@10"):
        assert [row[key] for row in result.epochs] == [row[key] for row in expected.epochs]
    wanted, found = whole.model.trained_state(), again.model.trained_state()
    assert wanted.keys() == found.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_finished_run_resumes_to_its_end_and_longer_ones_go_on(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any], tmp_path: Path
) -> None:
    first = prepare(make_recipe("training.num_epochs=2"), evaluate=judged, folder=tmp_path)
    first.trainer.train()
    again = prepare(make_recipe("training.num_epochs=2"), evaluate=judged, folder=tmp_path)
    assert again.trainer.train(resume=True).num_steps == first.trainer.num_steps
    assert all(torch.equal(t, again.model.trained_state()[n]) for n, t in first.model.trained_state().items())
    longer = prepare(make_recipe("training.num_epochs=4"), evaluate=judged, folder=tmp_path)
    result = longer.trainer.train(resume=True)
    assert [row["epoch"] for row in result.epochs] == [1, 2, 3, 4]
    assert result.num_steps == longer.trainer.num_steps


@pytest.mark.parametrize("override", ["optimizer.head_learning_rate=3e-3", "training.seed=7", "training.batch_users=7"])
def test_another_recipe_is_not_resumed(
    override: str, make_recipe: Callable[..., Any], prepare: Callable[..., Any], tmp_path: Path
) -> None:
    prepare(make_recipe("training.num_epochs=1"), folder=tmp_path).trainer.train()
    other = prepare(make_recipe("training.num_epochs=2", override), folder=tmp_path)
    with pytest.raises(InputError, match=override.partition("=")[0]):
        other.trainer.train(resume=True)


def test_changed_keys_are_named_before_tensors_that_do_not_fit(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any], tmp_path: Path
) -> None:
    recipe = make_recipe("training.num_epochs=1")
    with pytest.raises(InputError, match="there is no checkpoint to resume from"):
        prepare(recipe, folder=tmp_path).trainer.train(resume=True)
    prepare(recipe, folder=tmp_path).trainer.train()
    with pytest.raises(InputError, match=r"method\.rank \(then 4, now 2\)"):
        prepare(make_recipe("training.num_epochs=1", "method.rank=2"), folder=tmp_path).trainer.train(resume=True)
    with pytest.raises(InputError, match=r"encoder\.inputs"):
        prepare(make_recipe("encoder.inputs=text+ids"), folder=tmp_path).trainer.train(resume=True)
    several = prepare(recipe, folder=tmp_path).trainer
    several.saving.snapshots.settings["processes"] = 2
    with pytest.raises(InputError, match=r"processes \(then 1, now 2\)"):
        several.train(resume=True)


FILES = ("model", "best", "method", "optimizer", "random", "tables")


def test_what_a_checkpoint_holds(make_recipe: Callable[..., Any], prepare: Callable[..., Any], tmp_path: Path) -> None:
    trainer = prepare(make_recipe("training.num_epochs=1"), folder=tmp_path).trainer
    trainer.train()
    (path,) = (tmp_path / CHECKPOINTS).iterdir()
    assert path.name == f"step-{trainer.num_steps:08d}-epoch-end"
    assert {file.name for file in path.iterdir()} == {*(f"{name}.safetensors" for name in FILES), "checkpoint.json"}


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any], tmp_path: Path
) -> None:
    recipe = make_recipe("training.num_epochs=2", "training.batch_users=30")
    first = prepare(recipe, evaluate=judged, folder=tmp_path)
    first.trainer.train()
    newest, before = CheckpointFolder(tmp_path / CHECKPOINTS).paths()
    (newest / "optimizer.safetensors").unlink()
    again = prepare(recipe, evaluate=judged, folder=tmp_path)
    with pytest.warns(UserWarning, match=rf"{newest.name}/optimizer.*; the one before it is used, {before.name}"):
        result = again.trainer.train(resume=True)
    assert [row["epoch"] for row in result.epochs] == [1, 2]
    assert all(torch.equal(t, again.model.trained_state()[n]) for n, t in first.model.trained_state().items())
    left = {path.name for path in (tmp_path / CHECKPOINTS).iterdir()}
    assert left == {newest.name, before.name, f"damaged-{newest.name}"}


@pytest.mark.parametrize("name", [*(f"{name}.safetensors" for name in FILES), "checkpoint.json"])
@pytest.mark.parametrize("how", ["half", "gone", "other", "flipped"])
def test_whatever_is_damaged_is_named_and_the_checkpoint_before_is_used(name: str, how: str, tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    for epoch in (1, 2):
        folder.save(checkpoint(ended(epoch, epoch, epoch), **{part: {"a": torch.full((2,), epoch)} for part in FILES}))
    newest, before = folder.paths()
    damage(newest / name, how, before / name)
    found, (line,) = folder.load({})
    assert found.state.epoch == 1
    assert f"{newest / name}: " in line
    assert line.endswith(f"the one before it is used, {before.name}")


def damage(path: Path, how: str, other: Path) -> None:
    whole = path.read_bytes()
    if how == "half":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "gone":
        path.unlink()
    elif how == "other" and path.suffix == ".json":
        path.write_text(json.dumps({"format_version": 1}))
    elif how == "other":
        path.write_bytes(other.read_bytes())
    else:
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))


def test_with_no_whole_checkpoint_every_fault_is_named(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any], tmp_path: Path
) -> None:
    recipe = make_recipe("training.num_epochs=2")
    prepare(recipe, folder=tmp_path).trainer.train()
    names = []
    for path in CheckpointFolder(tmp_path / CHECKPOINTS).paths():
        (path / "model.safetensors").unlink()
        names.append(path.name)
    with pytest.raises(InputError, match=rf"no checkpoint is whole: .*{names[0]}.*{names[1]}"):
        prepare(recipe, folder=tmp_path).trainer.train(resume=True)


def ended(step: int, epoch: int, best: int) -> TrainingState:
    return TrainingState(step=step, epoch=epoch, best_epoch=best)


def checkpoint(state: TrainingState, **parts: dict[str, torch.Tensor]) -> Checkpoint:
    return Checkpoint(**{name: {} for name in FILES} | parts, state=state, settings={})


def test_the_best_the_newest_and_every_nth_are_kept(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "kept", keep_every=4)
    for epoch in range(1, 12):
        best = min(epoch, 3)
        within = TrainingState(step=10 * epoch - 5, epoch=epoch - 1, steps_in_epoch=5, best_epoch=min(epoch - 1, 3))
        folder.save(checkpoint(within))
        folder.save(checkpoint(ended(10 * epoch, epoch, best)))
    assert [path.name for path in folder.paths()] == [
        "step-00000110-epoch-end",
        "step-00000105",
        "step-00000080-epoch-end",
        "step-00000040-epoch-end",
        "step-00000030-epoch-end",
    ]


def test_what_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "some")
    folder.save(checkpoint(ended(1, 1, 1)))
    with pytest.raises(InputError, match=r"head\.weight is not finite after step 2: nothing is saved"):
        folder.save(checkpoint(ended(2, 2, 1), model={"head.weight": torch.tensor([1.0, math.nan])}))
    assert [path.name for path in folder.folder.iterdir()] == ["step-00000001-epoch-end"]


def test_a_disk_that_takes_no_more_leaves_the_older_one(tmp_path: Path) -> None:
    """The kernel itself refuses to write more than a file may have."""
    import resource

    folder = CheckpointFolder(tmp_path / "some")
    large = {"model": {"weight": torch.ones(1 << 18)}}
    folder.save(checkpoint(ended(1, 1, 1), **large))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        with pytest.raises(
            InputError, match=r"step-00000002-epoch-end: the checkpoint of step 2 cannot be written .*--resume"
        ):
            folder.save(checkpoint(ended(2, 2, 1), **large))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert [path.name for path in folder.folder.iterdir()] == ["step-00000001-epoch-end"]
    assert torch.equal(read_checkpoint(folder.paths()[0]).model["weight"], torch.ones(1 << 18))


def test_state_and_tensors_come_back(tmp_path: Path) -> None:
    state = TrainingState(step=3, steps_in_epoch=1, epoch=1, loss_sum=0.1 + 0.2, epochs=[{"loss": 1 / 3}])
    tensors = {name: {"a": torch.randn(3)} for name in FILES}
    write_checkpoint(tmp_path / "one", checkpoint(state, **tensors))
    found = read_checkpoint(tmp_path / "one")
    assert found.state == state
    assert all(torch.equal(getattr(found, name)["a"], tensors[name]["a"]) for name in FILES)


def steps_saved(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / CHECKPOINTS).iterdir())


def test_a_save_that_is_due_while_gradients_wait_is_made_at_the_next_step_of_the_language_model(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any], tmp_path: Path
) -> None:
    recipe = make_recipe(
        "training.num_epochs=1", "training.batch_users=4", "training.encoder_interval=3", "training.checkpoint_steps=5"
    )
    trainer = prepare(recipe, folder=tmp_path).trainer
    assert trainer.steps_per_epoch == 15
    saved: list[int] = []
    save = trainer.saving.snapshots.save
    trainer.saving.snapshots.save = lambda state, best: (saved.append(state.step), save(state, best))
    trainer.train()
    assert saved == [6, 12, 15, 15]


def test_no_step_is_made_beyond_max_steps(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any], tmp_path: Path
) -> None:
    recipe = make_recipe("training.num_epochs=2", "training.batch_users=8", "training.max_steps=3")
    stopped = prepare(recipe, evaluate=judged, folder=tmp_path)
    signal_after(stopped.trainer, 3)
    with pytest.raises(TrainingStopped) as stop:
        stopped.trainer.train()
    assert stop.value.step == 3
    again = prepare(recipe, evaluate=judged, folder=tmp_path).trainer.train(resume=True)
    assert (again.num_steps, len(again.epochs)) == (3, 1)
    longer = prepare(
        make_recipe("training.num_epochs=2", "training.batch_users=8", "training.max_steps=9"), folder=tmp_path
    )
    with pytest.raises(InputError, match=r"training\.max_steps \(then 3, now 9\)"):
        longer.trainer.train(resume=True)


def test_patience_may_be_another_when_a_run_goes_on(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any], tmp_path: Path
) -> None:
    worse = {"ndcg@10": 0.0}
    first = prepare(
        make_recipe("training.num_epochs=6", "training.patience=1"), evaluate=lambda _: worse, folder=tmp_path
    )
    assert len(first.trainer.train().epochs) == 1
    more = prepare(
        make_recipe("training.num_epochs=6", "training.patience=3"), evaluate=lambda _: worse, folder=tmp_path
    )
    assert len(more.trainer.train(resume=True).epochs) == 3


def test_the_metrics_file_is_that_of_the_checkpoint_again(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any], tmp_path: Path
) -> None:
    recipe = make_recipe("training.num_epochs=2")
    prepare(recipe, folder=tmp_path).trainer.train()
    whole = (tmp_path / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text(whole.splitlines(keepends=True)[0])
    prepare(recipe, folder=tmp_path).trainer.train(resume=True)
    assert (tmp_path / "metrics.jsonl").read_text() == whole


def signal_after(trainer: Any, step: int) -> None:
    """Ask a training to end when it has made so many steps."""
    stepped = trainer.stepper.step

    def step_then_signal(state: Any, **words: Any) -> None:
        stepped(state, **words)
        if state.step == step - 1:  # it is counted afterwards
            signal.raise_signal(signal.SIGTERM)

    trainer.stepper.step = step_then_signal


def test_sigterm_while_it_is_evaluated_ends_a_training_at_the_epoch(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any], tmp_path: Path
) -> None:
    """Also where nothing is kept, as in a search."""

    def evaluate(model: Any, asked: list[int] = []) -> dict[str, float]:  # noqa: B006
        asked.append(1)
        if len(asked) % 2 == 0:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)  # the launcher's, at once after the scheduler's
        return judged(model)

    for folder in (tmp_path, None):
        trainer = prepare(make_recipe("training.num_epochs=3"), evaluate=evaluate, folder=folder).trainer
        with pytest.raises(TrainingStopped) as stop:
            trainer.train()
        assert stop.value.step == trainer.steps_per_epoch
    assert [name.endswith("epoch-end") for name in steps_saved(tmp_path)] == [True]


@pytest.mark.parametrize("interval", [1, 3])
def test_sigterm_saves_and_exits_as_launchers_expect(
    interval: int, make_recipe: Callable[..., Any], prepare: Callable[..., Any], tmp_path: Path
) -> None:
    """With gradients that wait for a step of the language model, it goes on to that step."""
    recipe = make_recipe(
        "training.num_epochs=2", "training.batch_users=8", f"training.encoder_interval={interval}", *DROPOUT
    )
    whole = prepare(recipe, evaluate=judged)
    whole.trainer.train()
    stopped = prepare(recipe, evaluate=judged, folder=tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    signal_after(stopped.trainer, 1)
    with pytest.raises(TrainingStopped) as stop:
        stopped.trainer.train()
    assert stop.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    (path,) = CheckpointFolder(tmp_path / CHECKPOINTS).paths()
    assert read_checkpoint(path).state.step == stop.value.step < stopped.trainer.num_steps
    again = prepare(recipe, evaluate=judged, folder=tmp_path)
    again.trainer.train(resume=True)
    assert all(torch.equal(t, again.model.trained_state()[n]) for n, t in whole.model.trained_state().items())
