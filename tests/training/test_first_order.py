"""First-order training: beside plain loops of torch, resumed, skipped, refused."""

import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from zolit.callbacks import RunReport
from zolit.datamodules.epochs import EpochSampler, ResumableLoader
from zolit.errors import UserError
from zolit.models.adapters import LoRA
from zolit.models.source import ModelSource
from zolit.objectives.loss_function import LossFunction
from zolit.objectives.option_scoring import OptionScoring
from zolit.objectives.prompt_batch import PromptBatch
from zolit.python import fit
from zolit.runs.folder import RunOptions
from zolit.runs.keeping import StopRequested
from zolit.runs.metrics_file import read_rows
from zolit.strategies import HQQ, Int4, Int8, NoQuantizer
from zolit.training.first_order import FirstOrderModule

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from tiny_models import batch, tiny

BATCHES = 7


class Batches(Dataset):
    """Batches of a tiny model, each with labels of its own."""

    def __init__(self, name: str) -> None:
        self.base = batch(name)

    def __len__(self) -> int:
        return BATCHES

    def __getitem__(self, index: int) -> PromptBatch:
        one = self.base
        labels = (one.labels + index) % 3
        return PromptBatch(
            one.input_ids, one.attention_mask, one.answer_positions, one.answer_ids, labels
        )


def first(items: list[Any]) -> Any:
    return items[0]


class Data(L.LightningDataModule):
    def __init__(self, name: str = "llama") -> None:
        super().__init__()
        self.rows = Batches(name)

    def train_dataloader(self) -> ResumableLoader:
        sampler = EpochSampler(range(BATCHES), 5)
        options = {"collate_fn": first, "generator": torch.Generator()}
        return ResumableLoader(self.rows, batch_size=1, sampler=sampler, **options)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.rows, batch_size=1, collate_fn=first)


def module(name: str = "llama", **options: Any) -> FirstOrderModule:
    settings: dict[str, Any] = {
        "quantizer": NoQuantizer(),
        "optimizer": lambda params: torch.optim.AdamW(params, lr=1e-3),
        "dtype": "float32",
        "kernels": "reference",
    }
    one = FirstOrderModule(ModelSource("unused"), **{**settings, **options})
    one.adopt(tiny(name))
    return one


def trainer(steps: int, **options: Any) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        limit_val_batches=0,
        **options,
    )


def weights(one: FirstOrderModule) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in one.state_dict().items()}


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(t, two[name]) for name, t in one.items())


OPTIMIZERS: dict[str, Any] = {
    "AdamW": lambda params: torch.optim.AdamW(params, lr=1e-3, weight_decay=0.1),
    "SGD": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
}


@pytest.mark.parametrize(
    ("name", "optimizer", "micro"),
    [("llama_tied", "AdamW", 1), ("gpt2", "SGD", 1), ("roberta", "AdamW", 3)],
)
def test_steps_are_those_of_a_plain_loop(name: str, optimizer: str, micro: int) -> None:
    """To the last digit, over two epochs with a schedule; of three micro-batches the last is
    alone at the end of an epoch."""
    options: dict[str, Any] = {
        "optimizer": OPTIMIZERS[optimizer],
        "lr_scheduler": lambda made: torch.optim.lr_scheduler.StepLR(made, 2, gamma=0.5),
        "micro_batches": micro,
        "gradient_clip": 0.5,
        "tune": ["linear", "norms"],
    }
    one = module(name, **options)
    steps = 2 * -(-BATCHES // micro)
    trainer(steps).fit(one, Data(name).train_dataloader())

    model, objective = tiny(name), OptionScoring()
    objective.try_out(model)
    trained = []
    for path, parameter in model.named_parameters():
        where = model.get_submodule(path.rpartition(".")[0])
        linear = "Linear" in type(where).__name__ or type(where).__name__ == "Conv1D"
        norm = "norm" in type(where).__name__.lower()
        head = where is model.get_output_embeddings()
        if norm or (linear and path.endswith("weight") and not head):
            trained.append(parameter.requires_grad_())
    made = OPTIMIZERS[optimizer](trained)
    schedule = torch.optim.lr_scheduler.StepLR(made, 2, gamma=0.5)
    loader = Data(name).train_dataloader()
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        rows = list(loader)
        for start in range(0, BATCHES, micro):
            part = rows[start : start + micro]
            for rows_of_one in part:
                objective.losses(model, rows_of_one)[0].backward()
            for weight in trained:
                weight.grad /= len(part)
            torch.nn.utils.clip_grad_norm_(trained, 0.5)
            made.step()
            made.zero_grad()
            schedule.step()
    mine = {id(t): t for t in one.weights}.values()
    assert len(mine) == len(trained) > 8
    assert all(torch.equal(a, b) for a, b in zip(mine, trained, strict=True))
    untouched = tiny(name)
    assert not any(
        torch.equal(a, untouched.get_parameter(path))
        for path, a in one.network.named_parameters()
        if a.requires_grad
    )


def test_the_loss_is_that_of_the_papers() -> None:
    """Cross-entropy over the logits of the answers, made without zolit, and its gradient."""
    one, rows = module(), batch("llama")
    loss = one.add_gradient(rows)
    model = tiny("llama").double()
    wanted = [parameter.requires_grad_() for parameter in model.parameters()]
    places = (rows.attention_mask.cumsum(1) - 1).clamp(min=0)
    logits = model(rows.input_ids, rows.attention_mask, position_ids=places).logits[:, -1]
    truth = nn.functional.cross_entropy(logits[:, rows.answer_ids[:, 0]], rows.labels)
    truth.backward()
    assert float(loss) == pytest.approx(float(truth.detach()), rel=1e-5)
    gradients = {path: p.grad for path, p in one.network.named_parameters() if p.requires_grad}
    named = dict(model.named_parameters())
    assert len(wanted) > len(gradients) == 14
    for path, gradient in gradients.items():
        torch.testing.assert_close(gradient.double(), named[path].grad, rtol=1e-4, atol=1e-6)


def test_blocks_that_run_again_give_the_same_steps() -> None:
    plain, again = module(), module(gradient_checkpointing=True)
    calls: list[int] = []
    layer: Any = again.network.get_submodule("model.layers.0.mlp")
    layer.register_forward_pre_hook(lambda *inputs: calls.append(1))
    for one in (plain, again):
        trainer(3).fit(one, Data().train_dataloader())
    assert same(weights(plain), weights(again))
    assert len(calls) == 6, "each step runs a block twice"


class Stop(Callback):
    """What a signal does: the run ends before the next batch that begins a step."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, *args: Any) -> None:
        if trainer.global_step == self.steps and pl_module.between_steps:
            raise StopRequested(15, self.steps)


class Kill(Callback):
    """The process ends in the middle of a step."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step == self.steps:
            raise SystemError


RUNS: dict[str, dict[str, Any]] = {
    "full": {"optimizer": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9)},
    "micro-batches": {"micro_batches": 3},
    "adapter": {"quantizer": Int4(32), "adapter": LoRA(rank=2)},
    "masters": {"quantizer": Int8(activations="int8")},
}


@pytest.mark.parametrize(
    ("name", "end", "at"),
    [
        ("full", Stop, 9),
        ("full", Kill, 6),
        ("micro-batches", Stop, 3),
        ("micro-batches", Kill, 4),
        ("adapter", Stop, 2),
        ("masters", Kill, 5),
    ],
)
def test_a_resumed_run_is_the_uninterrupted_one(
    name: str, end: Any, at: int, tmp_path: Path
) -> None:
    """Bit for bit, in the second epoch and between two micro-batches too."""

    def made() -> FirstOrderModule:
        schedule = {"lr_scheduler": lambda one: torch.optim.lr_scheduler.StepLR(one, 2, gamma=0.8)}
        return module(**schedule, **RUNS[name])

    options: dict[str, Any] = {
        "max_steps": 10 if RUNS[name].get("micro_batches", 1) == 1 else 6,
        "accelerator": "cpu",
        "val_check_interval": 4,
        "check_val_every_n_epoch": None,
        "enable_progress_bar": False,
        "options": RunOptions(zero_shot=False),
    }
    whole, broken = made(), made()
    wanted = fit(whole, Data(), tmp_path / "whole", **options)
    with pytest.raises((StopRequested, SystemError)):
        fit(broken, Data(), tmp_path / "run", callbacks=(end(at),), **options)
    assert not same(weights(whole), weights(broken))
    resumed = made()
    seen: list[Callback] = []

    class Look(Callback):
        def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
            seen.extend(trainer.callbacks)

    summary = fit(resumed, Data(), tmp_path / "run", resume=True, callbacks=(Look(),), **options)
    assert same(weights(whole), weights(resumed))
    assert summary["steps"] == wanted["steps"]
    assert summary["best"] == wanted["best"]
    rows = [read_rows(tmp_path / part / "metrics.csv") for part in ("whole", "run")]
    for row in (*rows[0], *rows[1]):
        for time in ("step_ms", "seconds"):
            row.pop(time, None)
    assert rows[0] == rows[1]
    [report] = [one for one in seen if isinstance(one, RunReport)]
    curve = report.curves["train_loss"]
    assert [step for step, _ in curve] == list(range(1, options["max_steps"] + 1))


def test_a_loss_that_is_not_finite_moves_nothing() -> None:
    class Broken(OptionScoring):
        calls = 0

        def losses(self, model: nn.Module, batch: PromptBatch, copies: int = 1) -> Tensor:
            self.calls += 1
            found = super().losses(model, batch, copies)
            return found * float("nan") if self.calls in (2, 5, 6) else found

    one = module(objective=Broken(), micro_batches=2)
    before: list[dict[str, Tensor]] = []

    class Look(Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
            before.append(weights(one))

    run = trainer(3, callbacks=[Look()])
    run.fit(one, Data().train_dataloader())
    assert run.global_step == 3
    assert one.skipped.count == 2
    assert same(before[0], before[1]), "the second batch of the first step was NaN"
    assert not same(before[2], before[3])
    assert same(before[3], before[5])
    hopeless = module(objective=Broken(), max_skipped=1)
    with pytest.raises(UserError, match="1 steps in a row at step 1; the weights keep"):
        trainer(3).fit(hopeless, Data().train_dataloader())


def test_figures_of_a_step() -> None:
    one = module(gradient_clip=1e-3)
    run = trainer(1)
    run.fit(one, Data().train_dataloader())
    figures = run.callback_metrics
    assert set(one.step_figures()) == set(figures)
    assert figures["gradient_norm"] > 1e-2, "as it was before it was clipped"
    assert figures["skipped_steps"] == 0


def test_a_loss_of_the_users_own() -> None:
    def squares(model: Any, rows: dict[str, Tensor]) -> Tensor:
        logits = model(input_ids=rows["ids"], use_cache=False).logits[:, -1]
        return (logits - rows["target"].unsqueeze(1)).square().mean(1)

    rows = [{"ids": batch("llama").input_ids, "target": torch.ones(4)}] * 3
    one = module(objective=LossFunction(squares))
    run = trainer(3)
    run.fit(one, DataLoader(rows, batch_size=None))
    assert run.global_step == 3
    constant = module(objective=LossFunction(lambda model, rows: rows["target"]))
    with pytest.raises(UserError, match="the loss has no gradient"):
        trainer(1).fit(constant, DataLoader(rows, batch_size=None))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"objective": OptionScoring(shared=0.2)}, "compares two reads of a direction"),
        ({"quantizer": Int8(keep_error=True)}, "keep_error"),
        ({"quantizer": HQQ()}, "tune: got linear with quantizer HQQ"),
        ({"quantizer": HQQ(), "tune": ["*q_proj*"]}, "q_proj.weight would be trained, got .* HQQ"),
        ({"micro_batches": 0}, "micro_batches must be at least 1, got 0"),
        ({"gradient_clip": 0.0}, "gradient_clip must be a positive number, got 0.0"),
        ({"max_skipped": 0}, "max_skipped must be at least 1, got 0"),
    ],
)
def test_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        module(**options)


def test_weights_that_lose_short_steps_are_told(caplog: pytest.LogCaptureFixture) -> None:
    one = FirstOrderModule(ModelSource("unused"), NoQuantizer(), kernels="reference")
    one.adopt(tiny("llama").bfloat16())
    assert "14 weights are trained in bfloat16" in caplog.text
    caplog.clear()
    two = FirstOrderModule(ModelSource("unused"), Int8(), kernels="reference")
    two.adopt(tiny("llama").bfloat16())
    assert "bfloat16" not in caplog.text, "masters are float32"
