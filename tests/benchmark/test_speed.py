"""The speed benchmark: its parts by themselves, and a run of seconds on the toy data."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from peftrec.benchmark.speed import __main__ as speed
from peftrec.benchmark.speed import machine
from peftrec.benchmark.speed.agreement import compare_steps
from peftrec.benchmark.speed.alternation import Spread, alternate
from peftrec.benchmark.speed.floor import language_model_work
from peftrec.benchmark.speed.padded import PaddedTraining, best_users, lora_config
from peftrec.benchmark.speed.path_comparison import PathComparison
from peftrec.benchmark.speed.report import Results, lines
from peftrec.benchmark.speed.sentence_pairs import cut_texts, history_pairs
from peftrec.benchmark.speed.setting import PATHS, Setting, make_workload
from peftrec.benchmark.speed.step_trainer import PARTS, StepTrainer
from peftrec.config import InputError
from peftrec.data import load_dataset


@pytest.fixture(scope="module")
def recipe_file(make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speed") / "recipe.yaml"
    path.write_text(make_recipe("method.kind=lora", "method.rank=4").to_yaml(), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def setting(recipe_file: Path) -> Setting:
    return Setting(recipe=recipe_file, overrides=(), history=4, rounds=2)


@pytest.fixture(scope="module")
def workload(setting: Setting) -> Any:
    recipe = setting.load()
    return make_workload(load_dataset(recipe.data), recipe, users=8, number=2, seed=0)


class TestSpread:
    def test_figures(self) -> None:
        assert Spread((3.0, 1.0, 2.0)).plain() == {"min": 1.0, "median": 2.0, "max": 3.0, "values": [3.0, 1.0, 2.0]}

    def test_ratios_are_taken_round_by_round(self) -> None:
        assert Spread((2.0, 9.0)).per(Spread((1.0, 3.0))).values == (2.0, 3.0)


def test_turns_are_taken_and_turned_round(monkeypatch: pytest.MonkeyPatch) -> None:
    from peftrec.benchmark.speed import alternation

    # Nobody else computes, whatever else this machine does while tests run.
    monkeypatch.setattr(alternation, "BUSY", 2.0)
    order: list[tuple[str, int]] = []

    def runner(name: str) -> Callable[[int], float]:
        def run(number: int) -> float:
            order.append((name, number))
            return 1.0 if name == "a" else 3.0

        return run

    found = alternate({"a": runner("a"), "b": runner("b")}, 2, warm_up={"b": lambda _: 0.0}, gemm_size=8)
    assert order == [("a", 0), ("a", 0), ("b", 0), ("b", 1), ("a", 1)]
    assert found.speedup("a", "b").values == (3.0, 3.0)
    assert min(found.gemm_flops.values) > 0


def test_disturbed_rounds_are_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from peftrec.benchmark.speed import alternation

    shares = iter([0.9, 0.0, 0.9, 0.9])

    class Watched(machine.OtherWork):
        def __exit__(self, *_: Any) -> None:
            self.share = next(shares)

    monkeypatch.setattr(alternation, "OtherWork", Watched)
    numbers: list[int] = []
    found = alternate({"a": lambda number: numbers.append(number) or 1.0}, 2, gemm_size=8)
    # After as many again as there are rounds, what is measured counts as it is, and says so.
    assert numbers == [0, 0, 0, 1, 1]
    assert found.num_repeated == 2
    assert found.other_work == 0.9


def test_what_is_measured_alone_is_measured_undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    shares, values = iter([0.9, 0.0, 0.9, 0.9, 0.9]), iter([1.0, 2.0, 3.0, 4.0, 5.0])

    class Watched(machine.OtherWork):
        def __exit__(self, *_: Any) -> None:
            self.share = next(shares)

    monkeypatch.setattr(machine, "OtherWork", Watched)
    assert machine.undisturbed(lambda: next(values)) == 2.0
    assert machine.undisturbed(lambda: next(values)) == 5.0


class TestWorkload:
    def test_batches_are_those_of_training_on_the_whole_data(self, setting: Setting, workload: Any) -> None:
        from peftrec.data import TrainingWindows

        recipe = setting.load()
        whole = load_dataset(recipe.data)
        epoch = TrainingWindows(whole, 4, skip_repeats=recipe.loss.skip_repeats).epoch(0, 1, 8)
        texts, small = np.array([*whole.catalogue.texts, ""]), np.array([*workload.dataset.catalogue.texts, ""])
        for batch in workload.batches:
            other = next(epoch)
            for name in ("inputs", "targets", "seen_items"):
                assert (small[getattr(batch, name)] == texts[getattr(other, name)]).all()
            ids = [whole.sequences.user_ids[user] for user in other.users]
            assert [workload.dataset.sequences.user_ids[user] for user in batch.users] == ids

    def test_other_users_fill_the_catalogue(self, setting: Setting) -> None:
        recipe = setting.load()
        dataset = load_dataset(recipe.data)
        sizes = [
            len(make_workload(dataset, recipe, users=2, number=1, seed=0, num_items=number).dataset.catalogue)
            for number in (0, 20, 1000)
        ]
        assert sizes[0] < 20 <= sizes[1] < 30
        assert sizes[2] == np.count_nonzero(dataset.item_counts())

    def test_parts_of_a_batch_hold_its_rows(self, workload: Any) -> None:
        batch = workload.batches[0]
        part = batch.rows(2, 5)
        assert (part.inputs == batch.inputs[2:5]).all()
        rows = [batch.seen_items[batch.seen_offsets[row] : batch.seen_offsets[row + 1]] for row in (2, 3, 4)]
        assert (part.seen_items == np.concatenate(rows)).all()
        assert (np.diff(part.seen_offsets) == [len(row) for row in rows]).all()

    def test_too_many_are_refused(self, setting: Setting) -> None:
        recipe = setting.load()
        with pytest.raises(ValueError, match="9 batches of 100 users"):
            make_workload(load_dataset(recipe.data), recipe, users=100, number=9, seed=0)


class TestFloor:
    """The formulas against what torch counts where nothing is padded; attention of one piece is not counted."""

    LENGTH, TEXTS = 7, 5

    def counted(self, model: torch.nn.Module, first_layer: int = 0) -> tuple[int, int]:
        from peftrec.encoders.trunk import entering_states, stored_states

        inputs = {
            "input_ids": torch.randint(5, 40, (self.TEXTS, self.LENGTH)),
            "attention_mask": torch.ones(self.TEXTS, self.LENGTH, dtype=torch.long),
        }
        forward = FlopCounterMode(display=False)
        if first_layer:
            states = entering_states(model, first_layer, **inputs)
            with forward, stored_states(model, first_layer, states):
                result = model(**inputs).last_hidden_state.sum()
        else:
            with forward:
                result = model(**inputs).last_hidden_state.sum()
        with FlopCounterMode(display=False) as backward:
            result.backward()
        return forward.get_total_flops(), backward.get_total_flops()

    def backbone(self, tiny_bert: Path) -> Any:
        from peftrec.encoders import load_backbone

        model: Any = load_backbone(str(tiny_bert)).model
        model.set_attn_implementation("eager")
        return model

    @pytest.mark.parametrize("path", ["lora_all", "lora_top2", "full"])
    def test_formulas(self, setting: Setting, tiny_bert: Path, path: str) -> None:
        from peftrec.methods.peft_method import inject

        recipe, model = setting.load(*PATHS[path]), self.backbone(tiny_bert)
        work = language_model_work(model, recipe.method, [self.LENGTH] * self.TEXTS)
        first = recipe.method.first_layer(model)
        if path == "full":
            model.requires_grad_(True)
        else:
            inject(model, lora_config(model, recipe))
        assert (work.forward_flops, work.backward_flops) == self.counted(model, first)

    def test_side_network(self, setting: Setting, tiny_bert: Path) -> None:
        recipe, model = setting.load(*PATHS["side"]), self.backbone(tiny_bert)
        work = language_model_work(model, recipe.method, [self.LENGTH] * self.TEXTS)
        applied = recipe.method.apply(model)
        pooled_CKH = torch.randn(self.TEXTS, len(applied.pooled_states), 32)
        with FlopCounterMode(display=False) as forward:
            result = applied.combine(pooled_CKH).sum()
        with FlopCounterMode(display=False) as backward:
            result.backward()
        assert (work.forward_flops, work.backward_flops) == (forward.get_total_flops(), backward.get_total_flops())
        trained = sum(parameter.numel() for parameter in applied.named_parameters().values())
        assert work.num_bytes == 4 * (pooled_CKH.numel() + 8 * trained)

    def test_bytes_of_trained_weights(self, setting: Setting, tiny_bert: Path) -> None:
        model = self.backbone(tiny_bert)
        layers = sum(w.numel() for n, w in model.named_parameters() if "encoder.layer" in n and w.ndim == 2)
        work = language_model_work(model, setting.load(*PATHS["full"]).method, [self.LENGTH])
        assert work.num_bytes == 4 * (2 * layers + 8 * sum(p.numel() for p in model.parameters()))

    def test_the_slower_of_computing_and_moving_counts(self, setting: Setting, tiny_bert: Path) -> None:
        work = language_model_work(self.backbone(tiny_bert), setting.load(*PATHS["lora_all"]).method, [5])
        assert work.seconds(1e6, 1e30, other_flops=1e6) == pytest.approx(work.flops / 1e6 + 1)
        assert work.seconds(1e30, 1e3) == pytest.approx(work.num_bytes / 1e3)

    def test_other_methods_are_refused(self, setting: Setting, tiny_bert: Path) -> None:
        with pytest.raises(ValueError, match="'bitfit' is not known"):
            language_model_work(self.backbone(tiny_bert), setting.load("method.kind=bitfit").method, [5])


class TestSteps:
    def test_both_ways_compute_the_same(self, setting: Setting, workload: Any) -> None:
        found = compare_steps(setting, workload)
        assert found.agrees
        assert found.num_tensors == 2 * 3 * 6

    def test_a_difference_is_seen(self, setting: Setting, workload: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        encode = PaddedTraining.encode
        monkeypatch.setattr(PaddedTraining, "encode", lambda self, items_R: encode(self, items_R) * 1.01 + 0.001)
        assert not compare_steps(setting, workload).agrees

    def test_our_step_is_the_trainers(self, setting: Setting, workload: Any) -> None:
        trainer = StepTrainer(setting.load(*PATHS["lora_all"]), workload.dataset)
        before = trainer.model.trained_state()
        seconds = trainer.timed_step(workload.batches[0])
        after = trainer.model.trained_state()
        assert any((before[name] != after[name]).any() for name in after if name.startswith("adapter."))
        assert set(trainer.parts) == set(PARTS)
        assert min(trainer.parts.values()) > 0
        assert sum(trainer.parts.values()) == pytest.approx(seconds)
        items = np.unique(np.concatenate([workload.batches[0].inputs, workload.batches[0].targets], axis=None))
        assert len(trainer.tokens(workload.batches[0])) == np.count_nonzero(items >= 0)
        assert trainer.head_flops(workload.batches[0]) > 0

    def test_asking_for_gradients_moves_nothing(self, setting: Setting, workload: Any) -> None:
        trainer = StepTrainer(setting.load(*PATHS["lora_all"]), workload.dataset)
        before = trainer.model.trained_state()
        trainer.gradients(workload.batches[0])
        assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.model.trained_state().items())
        assert all(parameter.grad is None for parameter in trainer.model.parameters())

    @pytest.mark.parametrize("kind", ["lora", "full"])
    def test_padded_steps_encode_every_position(self, setting: Setting, workload: Any, kind: Any) -> None:
        recipe = setting.load(*PATHS["lora_all" if kind == "lora" else "full"])
        theirs = PaddedTraining(kind, recipe, workload.dataset)
        shapes: list[tuple[int, ...]] = []
        theirs.language_model.register_forward_pre_hook(
            lambda _, __, words: shapes.append(tuple(words["input_ids"].shape)), with_kwargs=True
        )
        assert theirs.timed_step(workload.batches[0], 3) > 0
        assert shapes == [(15, 16), (15, 16), (10, 16)]
        trained = [parameter for parameter in theirs.language_model.parameters() if parameter.requires_grad]
        assert len(trained) == (2 * 3 * 6 if kind == "lora" else len(list(theirs.language_model.parameters())))

    def test_a_share_of_the_micro_batches_counts_for_all(
        self, setting: Setting, workload: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        theirs = PaddedTraining("lora", setting.load(*PATHS["lora_all"]), workload.dataset)
        monkeypatch.setattr(theirs, "_accumulate", lambda parts: float(sum(len(part) for part, _ in parts)))
        assert theirs.timed_step(workload.batches[0], 2, at_most=1) == pytest.approx(8, abs=0.5)

    @pytest.mark.parametrize("kind", ["lora", "full"])
    def test_padded_steps_draw_no_dropout_in_the_language_model_as_ours_draw_none(
        self, setting: Setting, workload: Any, kind: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        recipe = setting.load(*PATHS["lora_all" if kind == "lora" else "full"], "encoder.dropout=0", "user.dropout=0")
        theirs, ours = PaddedTraining(kind, recipe, workload.dataset), StepTrainer(recipe, workload.dataset)
        used: list[float] = []
        dropout, attention = torch.nn.functional.dropout, torch.nn.functional.scaled_dot_product_attention

        def watched_dropout(x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
            used.append(p if training else 0.0)
            return dropout(x, p, training, inplace)

        def watched_attention(*tensors: torch.Tensor, dropout_p: float = 0.0, **words: Any) -> Any:
            used.append(dropout_p)
            return attention(*tensors, dropout_p=dropout_p, **words)

        monkeypatch.setattr(torch.nn.functional, "dropout", watched_dropout)
        monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched_attention)
        for step in (lambda: theirs.timed_step(workload.batches[0], 4), lambda: ours.step(workload.batches[0])):
            used.clear()
            step()
            assert used
            assert max(used) == 0.0
        as_usual = PaddedTraining(kind, recipe, workload.dataset, dropout=True)
        as_usual.timed_step(workload.batches[0], 4)
        assert max(used) > 0.0

    def test_of_equally_quick_sizes_the_search_takes_the_smallest(
        self, setting: Setting, workload: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        theirs = PaddedTraining("lora", setting.load(*PATHS["lora_all"]), workload.dataset)
        seconds = {1: 1.03, 2: 1.01, 4: 1.0}
        monkeypatch.setattr(theirs, "seconds_a_user", lambda batch, users: seconds[users])
        assert best_users(theirs, workload.batches[0], tuple(seconds), lambda _: None)[0] == 2

    def test_micro_batches_of_longer_histories_have_as_many_rows(
        self, setting: Setting, workload: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        comparison = PathComparison(setting, workload.dataset, sizes=(4,), say=lambda _: None)
        theirs = PaddedTraining("lora", setting.load(*PATHS["lora_all"]), workload.dataset)
        comparison.find_best("padded_lora", theirs, workload.batches[0])
        assert comparison.micro_users("padded_lora", theirs.width) == 4
        assert comparison.micro_users("padded_lora", 2 * theirs.width) == 2
        assert comparison.micro_users("padded_lora", 100 * theirs.width) == 1

    def test_the_search_ends_where_it_gets_slower(
        self, setting: Setting, workload: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        theirs = PaddedTraining("lora", setting.load(*PATHS["lora_all"]), workload.dataset)
        seconds = {1: 2.0, 2: 1.0, 4: 1.5, 6: 1.6, 8: 0.1}
        monkeypatch.setattr(theirs, "seconds_a_user", lambda batch, users: seconds[users])
        said: list[str] = []
        best, found = best_users(theirs, workload.batches[0], tuple(seconds), said.append)
        assert best == 2
        assert list(found) == [5, 10, 20, 30]
        assert len(said) == 4


def test_pairs_hold_the_history_newest_first(workload: Any) -> None:
    batch = dataclasses.replace(
        workload.batches[0], inputs=np.array([[-1, 0, 1]]), targets=np.array([[-1, -1, 2]]), users=np.array([0])
    )
    assert history_pairs(batch, ["a", "b", "c"]) == [("b. a", "c")]


def test_texts_of_pairs_are_no_longer_than_ours(tiny_bert: Path) -> None:
    from peftrec.encoders import EncoderConfig, TextEncoder, load_backbone
    from peftrec.methods import METHODS

    encoder = TextEncoder(load_backbone(str(tiny_bert)), EncoderConfig(max_tokens=6), METHODS.load("frozen")())
    texts = ["small red wine. wine and cheese", "tea", ""]
    cut = cut_texts(encoder, texts)
    assert cut[1:] == texts[1:]
    assert texts[0].startswith(cut[0])
    assert len(cut[0]) < len(texts[0])
    assert torch.equal(encoder.tokenize(cut).tokens_T, encoder.tokenize(texts).tokens_T)


def test_sentence_transformers_draws_no_dropout(tiny_bert: Path) -> None:
    pytest.importorskip("sentence_transformers")
    from peftrec.benchmark.speed.sentence_pairs import sentence_transformer
    from peftrec.encoders import EncoderConfig, TextEncoder, load_backbone
    from peftrec.methods import METHODS

    encoder = TextEncoder(load_backbone(str(tiny_bert)), EncoderConfig(max_tokens=6), METHODS.load("frozen")())
    assert encoder.backbone.model.config.hidden_dropout_prob > 0
    model = sentence_transformer(encoder, 6).train()
    assert all(module.p == 0 for module in model.modules() if isinstance(module, torch.nn.Dropout))
    assert model[0].auto_model.config.attention_probs_dropout_prob == 0


class TestResults:
    def test_later_runs_add_to_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "deep" / "speed.json"
        Results(path, {"seed": 0}).keep("a", {"x": 1})
        Results(path, {"seed": 1}).keep("b", {"x": 2})
        assert json.loads(path.read_text())["blocks"] == {
            "a": {"x": 1, "run": {"seed": 0}},
            "b": {"x": 2, "run": {"seed": 1}},
        }

    @pytest.mark.parametrize("content", ["not json", "[]", "{}"])
    def test_other_files_are_refused(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "other.json"
        path.write_text(content)
        with pytest.raises(InputError, match=r"other\.json: is no file of speed results"):
            Results(path, {})


class TestRun:
    @pytest.fixture(autouse=True)
    def idle(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machine, "other_work", lambda: 0.0)

    def arguments(self, recipe: Path, output: Path, *words: str) -> list[str]:
        return ["--smoke", "--recipe", str(recipe), "--output", str(output), *words]

    def on_toy_data(self, recipe: Path, output: Path, setting: Setting) -> list[str]:
        return [*self.arguments(recipe, output), "--data-root", str(getattr(setting.load().data, "root", ""))]

    @pytest.mark.slow
    def test_paths(
        self, recipe_file: Path, setting: Setting, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        output = tmp_path / "speed.json"
        words = self.on_toy_data(recipe_file, output, setting)
        assert speed.main([*words, "--only", "agreement,lora_all,side"]) == 0
        blocks = json.loads(output.read_text())["blocks"]
        assert list(blocks) == ["agreement", "lora_all@4", "side@4", "lora_all@8", "side@8"]
        block = blocks["lora_all@4"]
        assert block["rows"] == 16
        assert block["padded_tokens"] == 16 * 16
        assert block["tokens"] < block["padded_tokens"]
        ratio = block["against"]["padded_lora"]["seconds"]["values"][0] / block["seconds"]["values"][0]
        assert block["against"]["padded_lora"]["ratio"]["values"] == [pytest.approx(ratio)]
        flop = (block["floor"]["forward_gflop"] + block["floor"]["backward_gflop"]) / block["seconds"]["median"]
        assert block["gemm_share"] == pytest.approx(flop / block["machine"]["gemm_gflops"]["median"])
        assert 0 < block["floor"]["share_of_step"] < 1
        kinds = {"padded_full", "padded_lora"}
        assert set(blocks["side@4"]["against"]) == kinds | {f"{kind}_dropout" for kind in kinds}
        run = block["run"]
        assert run["seed"] == 0
        assert run["data_sha256"] == load_dataset(setting.load().data).content_hash()
        assert not any("root" in word for word in run["overrides"])
        printed = capsys.readouterr().out
        assert "lora_all@8" in printed
        assert "times" in printed
        assert list(lines(blocks)) == printed.splitlines()

    def test_what_computes_beside_it_is_seen(
        self, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(machine, "other_work", lambda: 0.5)
        assert speed.main(self.arguments(recipe_file, tmp_path / "speed.json")) == 1
        assert "other processes take 50% of this machine" in capsys.readouterr().err

    def test_unknown_names_are_refused(
        self, recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert speed.main(self.arguments(recipe_file, tmp_path / "speed.json", "--only", "magic")) == 1
        assert "there is no 'magic'; there are agreement, micro_batches, lora_all" in capsys.readouterr().err

    @pytest.mark.slow
    def test_curves(self, recipe_file: Path, setting: Setting, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        output = tmp_path / "speed.json"
        words = self.on_toy_data(recipe_file, output, setting)
        assert speed.main([*words, "--curves"]) == 0
        curves = json.loads(output.read_text())["blocks"]["curves"]["curves"]
        places = {name: [point["at"] for point in points] for name, points in curves.items()}
        assert places["history"] == [2, 3]
        assert places["users"] == [2, 4]
        assert places["layers"] == [1, 2]
        assert places["catalogue"][0] >= 10
        assert {"lora_all", "lora_top2", "side", "padded_lora"} < set(curves["users"][0])
        assert (tmp_path / "speed-curves.svg").is_file()
        assert (tmp_path / "speed-curves.png").is_file()

    @pytest.mark.slow
    def test_everything(self, recipe_file: Path, setting: Setting, tmp_path: Path) -> None:
        pytest.importorskip("sentence_transformers")
        output = tmp_path / "speed.json"
        words = self.on_toy_data(recipe_file, output, setting)
        assert speed.main([*words, "--only", "sentence_transformers,encoding,memory,warm_start"]) == 0
        blocks = json.loads(output.read_text())["blocks"]
        assert list(blocks) == ["sentence_transformers", "encoding", "memory", "warm_start"]
        start = blocks["warm_start"]
        assert 0 < start["training"]["median"] < start["first_batch"]["median"] < start["first_step"]["median"]
        assert set(blocks["sentence_transformers"]["against"]) == {"ranking", "cached_ranking"}
        assert blocks["encoding"]["difference"] < 1e-5
        assert blocks["memory"]["lora_top2"]["training_mib"] > 0

    def test_vectors_that_differ_are_an_error(
        self, recipe_file: Path, setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("sentence_transformers")
        from peftrec.benchmark.speed import suite

        monkeypatch.setattr(suite, "TOLERANCE", 0.0)
        root = getattr(setting.load().data, "root", "")
        words = [*self.arguments(recipe_file, tmp_path / "speed.json"), "--data-root", str(root)]
        assert speed.main([*words, "--only", "encoding"]) == 1


def test_other_processes_are_told_from_this_one() -> None:
    with machine.OtherWork() as watch:
        sum(range(2_000_000))
    assert watch.share is None or 0 <= watch.share <= 1.05


def test_drawing(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from xml.etree import ElementTree

    from peftrec.benchmark.speed.drawing import draw_curves

    spread = Spread((1.0, 2.0)).plain()
    points = [{"at": at, "items": 3, "lora_all": spread, "padded_lora": spread} for at in (5, 10)]
    written = draw_curves({"history": points, "users": points}, tmp_path / "speed")
    assert [path.name for path in written] == ["speed-curves.svg", "speed-curves.png"]
    ElementTree.parse(written[0])
