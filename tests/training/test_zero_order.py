"""The module under a Trainer: steps, skipped queries, averages, schedulers, resume."""

import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import Dataset

from zolit.datamodules.epochs import EpochSampler, ResumableLoader
from zolit.errors import UserError
from zolit.gradient import taken_step
from zolit.models.source import ModelSource
from zolit.noise import fold
from zolit.objectives.option_scoring import OptionScoring
from zolit.objectives.prompt_batch import PromptBatch
from zolit.optim import ZOSGD
from zolit.strategies import (
    ClippedTwoPoint,
    CodePerturber,
    ConstantQueries,
    DensePerturber,
    Int8,
    Losses,
    NoQuantizer,
    ScalePerturber,
    TwoPoint,
)
from zolit.training.zero_order import ZeroOrderModule

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from tiny_models import MODELS, batch, tiny


class Batches(Dataset):
    """Twelve batches of a model, each with labels of its own."""

    def __init__(self, name: str) -> None:
        self.base = batch(name)

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> PromptBatch:
        labels = (self.base.labels + index) % 3
        one = self.base
        return PromptBatch(
            one.input_ids, one.attention_mask, one.answer_positions, one.answer_ids, labels
        )


def loader(name: str = "llama") -> ResumableLoader:
    """A new order each epoch; goes on in the middle of one, as `PromptDataModule`'s does."""
    return ResumableLoader(
        Batches(name),
        batch_size=1,
        sampler=EpochSampler(range(12), 5),
        collate_fn=lambda one: one[0],
        generator=torch.Generator(),  # torch's loader draws from the global one otherwise
    )


def module(name: str = "llama", **options: Any) -> ZeroOrderModule:
    settings: dict[str, Any] = {
        "quantizer": Int8(),
        "perturber": CodePerturber(),
        "optimizer": lambda params: ZOSGD(params, lr=100.0),
        "dtype": "float32",
        "kernels": "reference",
        "seed": 3,
    }
    one = ZeroOrderModule(ModelSource("unused"), **{**settings, **options})
    one.adopt(tiny(name))
    return one


def trainer(steps: int, folder: Path | None = None, **options: Any) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **{"enable_checkpointing": False, **options},
    )


def snapshot(one: ZeroOrderModule) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in one.state_dict().items()}


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(t, two[name]) for name, t in one.items())


@pytest.mark.parametrize("name", MODELS)
def test_steps_advance_and_weights_change(name: str) -> None:
    one = module(name)
    start = snapshot(one)
    run = trainer(2)
    run.fit(one, loader(name))
    assert run.global_step == 2
    assert not same(start, snapshot(one))
    assert {"train_loss", "step_ms", "skipped_queries"} <= run.callback_metrics.keys()
    assert one.skipped_queries == 0
    assert not one.network.training


class Broken(OptionScoring):
    """NaN at the given calls."""

    def __init__(self, calls: range) -> None:
        super().__init__()
        self.calls, self.call = calls, 0

    def losses(self, model: nn.Module, batch: PromptBatch, copies: int = 1) -> Tensor:
        self.call += 1
        losses = super().losses(model, batch, copies)
        return losses * torch.nan if self.call - 1 in self.calls else losses


def test_nan_losses_stop_the_run_at_the_last_good_weights() -> None:
    good = module()
    trainer(3).fit(good, loader())
    one = module(objective=Broken(range(3, 1000)), max_skipped=4)
    run = trainer(50)
    with pytest.raises(UserError, match="4 queries in a row at step 6; the weights keep"):
        run.fit(one, loader())
    assert same(snapshot(good), snapshot(one))
    assert one.skipped_queries == 4


def test_a_good_query_starts_the_count_again_and_skipped_ones_are_left_out() -> None:
    one = module(objective=Broken(range(1, 4)), max_skipped=4, query_scheduler=ConstantQueries(2))
    run = trainer(4)
    run.fit(one, loader())
    assert run.global_step == 4
    assert one.skipped_queries == 3
    # Step 0: query 1 is NaN, so the step is that of query 0 alone, undivided.
    first = module(objective=Broken(range(1, 2)), query_scheduler=ConstantQueries(2))
    alone = module()
    trainer(1).fit(first, loader())
    trainer(1).fit(alone, loader())
    assert same(snapshot(first), snapshot(alone))


class Outputs(Callback):
    """Keeps what the module's steps hand to callbacks."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *args: Any
    ) -> None:
        self.seen.append(taken_step(outputs))


def test_callbacks_are_given_each_step_that_was_made() -> None:
    kept = Outputs()
    trainer(2, callbacks=[kept]).fit(module(micro_batches=2), loader())
    assert [None if one is None else one.step for one in kept.seen] == [None, 0, None, 1]
    assert kept.seen[1].rates == (100.0,)
    assert taken_step(None) is None


class Recorder(ZOSGD):
    """Keeps the gradients that it steps on."""

    def step(self, closure: Any = None, gradient: Any = None) -> Any:
        self.seen = [*getattr(self, "seen", []), gradient]
        return super().step(closure, gradient)


def recorded(steps: int, **options: Any) -> tuple[ZeroOrderModule, list[Any]]:
    one = module(optimizer=lambda params: Recorder(params, lr=1e-9), **options)
    run = trainer(steps)
    run.fit(one, loader())
    return one, run.optimizers[0].seen


def test_micro_batches_average_under_the_same_direction() -> None:
    _, single = recorded(4, perturber=DensePerturber(), quantizer=NoQuantizer())
    one, averaged = recorded(
        1, perturber=DensePerturber(), quantizer=NoQuantizer(), micro_batches=4
    )
    assert averaged[0].keys.tolist() == single[0].keys.tolist()
    found = []
    for index in range(4):
        values = (
            TwoPoint()
            .estimate(
                Losses(one.objective, one.network, Batches("llama")[index]),
                one.reading,
                [fold(3, 0, 0, 0)],
                one.perturber.eps,
                True,
            )
            .values
        )
        found.append(values)
    torch.testing.assert_close(
        averaged[0].values, torch.cat(found).mean(0, True), atol=1e-3, rtol=1e-3
    )


def test_micro_batches_left_at_the_end_of_an_epoch_make_a_step() -> None:
    one = module(micro_batches=5)
    run = trainer(6)
    run.fit(one, loader())
    assert run.global_step == 6
    # 12 batches an epoch: steps of 5, 5 and 2.
    assert run.fit_loop.epoch_progress.total.completed == 2
    assert run.fit_loop.epoch_loop.total_batch_idx == 23


def test_every_step_and_query_has_directions_of_its_own() -> None:
    _, seen = recorded(3, query_scheduler=ConstantQueries(3))
    keys = [key for gradient in seen for key in gradient.keys.tolist()]
    assert len(set(keys)) == 9
    assert len({gradient.rounding_key for gradient in seen}) == 3
    assert keys != [
        k
        for g in recorded(3, query_scheduler=ConstantQueries(3), seed=4)[1]
        for k in g.keys.tolist()
    ]


def test_global_random_numbers_are_neither_used_nor_moved() -> None:
    weights = []
    for seed in (0, 1):
        one = module()
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        trainer(2).fit(one, loader())
        weights.append(snapshot(one))
        assert torch.equal(torch.get_rng_state(), state)
    assert same(*weights)


def test_the_scheduler_steps_with_the_optimizer() -> None:
    one = module(
        micro_batches=2,
        lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5),
    )
    run = trainer(3)
    run.fit(one, loader())
    assert run.optimizers[0].param_groups[0]["lr"] == 100.0 * 0.5**3


@pytest.mark.parametrize(
    "kind", ["codes", "feedback", "scales", "dense", "scheduler", "micro", "clipped"]
)
def test_resuming_equals_never_stopping(kind: str, tmp_path: Path) -> None:
    """A checkpoint of step 5, and 12 more into the next epoch = 17 steps, bit for bit."""
    options: dict[str, Any] = {
        "codes": {},
        "feedback": {"optimizer": lambda p: ZOSGD(p, lr=20.0, error_feedback=True)},
        "scales": {"perturber": ScalePerturber(), "optimizer": lambda p: ZOSGD(p, lr=1e-2)},
        "dense": {
            "quantizer": NoQuantizer(),
            "perturber": DensePerturber(),
            "optimizer": lambda p: ZOSGD(p, lr=1e-3),
        },
        "scheduler": {"lr_scheduler": lambda o: torch.optim.lr_scheduler.StepLR(o, 1, gamma=0.8)},
        "micro": {"micro_batches": 2, "query_scheduler": ConstantQueries(2)},
        "clipped": {"perturber": ScalePerturber(), "optimizer": lambda p: ZOSGD(p, lr=1e-2)},
    }[kind]
    # An estimator that remembers earlier steps belongs to one run.
    estimator = (lambda: ClippedTwoPoint(window=8)) if kind == "clipped" else TwoPoint
    whole = module(**options, estimator=estimator())
    trainer(17).fit(whole, loader())

    first = module(**options, estimator=estimator())
    saver = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=5, save_top_k=-1)
    trainer(7, tmp_path, callbacks=[saver], enable_checkpointing=True).fit(first, loader())
    second, run = module(**options, estimator=estimator()), trainer(17, tmp_path)
    run.fit(second, loader(), ckpt_path=tmp_path / "step=5.ckpt", weights_only=True)
    assert run.global_step == 17
    assert not same(snapshot(first), snapshot(second))
    assert same(snapshot(whole), snapshot(second))
    assert whole.estimator.metrics() == second.estimator.metrics()


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    one, run = module(), trainer(1, tmp_path)
    run.fit(one, loader())
    run.save_checkpoint(tmp_path / "one.ckpt")
    other = module("qwen3")
    start = snapshot(other)
    with pytest.raises(UserError, match="ckpt_path: the checkpoint is of another model"):
        trainer(2).fit(other, loader(), ckpt_path=tmp_path / "one.ckpt", weights_only=True)
    assert same(start, snapshot(other))


def test_validation_counts_every_example() -> None:
    one = module()
    batches = list(loader())
    found = trainer(1).validate(one, loader(), verbose=False)[0]
    with torch.no_grad():
        scores = [one.objective.scores(one.network, b) for b in batches]
    labels = torch.cat([b.labels for b in batches])
    every = torch.cat(scores)
    assert found["val_accuracy"] == pytest.approx((every.argmax(1) == labels).float().mean().item())
    assert found["val_loss"] == pytest.approx(
        nn.functional.cross_entropy(every, labels).item(), rel=1e-5
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float16"}, "dtype must be one of bfloat16, float32, got 'float16'"),
        ({"micro_batches": 0}, "micro_batches must be at least 1, got 0"),
        ({"max_skipped": 0}, "max_skipped must be at least 1, got 0"),
        (
            {"compile": "blocks", "kernels": "reference"},
            "compile: got blocks with kernels: reference, expected compiled kernels beside "
            "compiled blocks; set compile: none, or kernels: auto",
        ),
        ({"perturber": DensePerturber()}, "DensePerturber moves floating-point weights"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        module(**options)
