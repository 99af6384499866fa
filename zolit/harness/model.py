"""A zolit model as lm-evaluation-harness calls one."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from zolit.datamodules.limits import context_length, padding_id, vocabulary_of
from zolit.datamodules.prompt_encoder import special_tokens_around
from zolit.errors import UserError, first_line, tell
from zolit.harness.load import loaded_module
from zolit.harness.scores import Pair, continuation_scores
from zolit.harness.writing import by_settings, written_texts
from zolit.models.families import family_of
from zolit.objectives.decoding import find_decoder

CONTEXT = 2048
"""Tokens that a model without a limit of its own reads at once, the harness's own default."""


@register_model("zolit")
class HarnessModel(TemplateLM):
    """A model on its stored quantized weights, for tasks of lm-evaluation-harness.

    It answers the harness's three kinds of requests: ``loglikelihood``, ``loglikelihood_rolling``
    and ``generate_until``. Requests, their order in batches and cuts of long ones are as with the
    harness's own ``hf`` model, so that figures compare; the weights are not written as floats.
    Batches are padded only if the model's scores do not depend on it (`zolit.objectives.padding`).

    Args:
        run: folder of a run, or a YAML file whose group ``model`` names a model and a quantizer.
        module: a `TuningModule` instead of ``run``; it is loaded if it is not yet.
        checkpoint: of the run; by default its best, else its last.
        base: the model as the run started from it.
        batch_size: rows that run together.
        max_length: tokens that the model reads at most; by default its context.
        device: ``cpu``, ``cuda``, ...; by default where the module is.
        max_batch_size: of the harness, which hands it to every model; it has no meaning here.

    Raises:
        UserError: the run cannot be used, the model is not causal, or an argument is out of range.

    Example:
        ::

            import lm_eval
            from zolit.harness.model import HarnessModel

            model = HarnessModel("runs/mine", batch_size=16)
            found = lm_eval.simple_evaluate(model=model, tasks=["piqa"])
    """

    def __init__(
        self,
        run: str | Path | None = None,
        module: Any = None,
        checkpoint: str | Path | None = None,
        base: bool = False,
        batch_size: int | str = 16,
        max_length: int | None = None,
        device: str | None = None,
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        if not str(batch_size).isdigit() or int(batch_size) < 1:
            raise UserError(
                f"batch_size: got {batch_size!r}, a number of at least 1 is expected; try 16"
            )
        self.batch_size = int(batch_size)
        self.module, self.read_from = loaded_module(run, module, checkpoint, base)
        if device is not None:
            self.module.to(device)
        self.model = self.module.network.eval()
        if not family_of(self.model).writes_on:
            raise UserError(
                f"model.source: {type(self.model).__name__} fills masks, and the harness asks "
                "for texts that go on; give a causal model"
            )
        source = self.module.source
        self.config, self.tokenizer = source.load_config(), source.load_tokenizer()
        self._before, _ = special_tokens_around(self.tokenizer)
        context = context_length(self.config)
        if max_length is not None and not 1 < max_length <= (context or max_length):
            raise UserError(
                f"max_length: got {max_length}, expected 2 to {context or 'any number of'} tokens; "
                "leave it out for the model's context"
            )
        self.max_length = max_length or context or CONTEXT
        self._decoder = find_decoder(self.model)
        self._pad = padding_id(self.tokenizer, self.config)
        self._device = next(self.model.parameters()).device

    # What the harness asks of a tokenizer

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        end = self.tokenizer.eos_token_id
        return int(self.tokenizer.pad_token_id if end is None else end)

    @property
    def prefix_token_id(self) -> int:
        """The token that stands before a text without a context."""
        start = self.tokenizer.bos_token_id
        return int(self.eot_token_id if start is None else start)

    @property
    def tokenizer_name(self) -> str:
        """Names the tokenizer where the harness keeps requests."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        """Token ids of a text, with the tokens that the tokenizer puts before one.

        Args:
            string: the text.
            add_special_tokens: whether these stand before it; None: unless it begins with them.

        Raises:
            UserError: a token of it has no embedding in the model.
        """
        start = self.tokenizer.bos_token
        if add_special_tokens is None:
            add_special_tokens = not (start and string.startswith(start))
        bare = self.tokenizer(string, add_special_tokens=False, verbose=False)["input_ids"]
        known = vocabulary_of(self.config)
        if known is not None and max(bare, default=0) >= known:
            raise UserError(
                f"tasks: a text holds the token with id {max(bare)}, and the model's embedding has "
                f"{known} rows; take it out of the text"
            )
        return [*self._before, *bare] if add_special_tokens else list(bare)

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation as the tokenizer's chat template writes it.

        Raises:
            UserError: the tokenizer has no chat template, or it refuses the conversation.
        """
        if not getattr(self.tokenizer, "chat_template", None):
            raise UserError(
                "chat: the model's tokenizer has no chat template; leave out chat, or give a model "
                "that was made for conversations"
            )
        from jinja2 import TemplateError

        try:
            return str(
                self.tokenizer.apply_chat_template(
                    chat_history,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    continue_final_message=not add_generation_prompt,
                )
            )
        except (TemplateError, ValueError, TypeError) as error:
            raise UserError(
                f"chat: the model's chat template refuses the conversations of the tasks "
                f"({first_line(error)}); leave out chat"
            ) from error

    # The three kinds of requests

    def _loglikelihood_tokens(
        self, requests: Sequence[Any], disable_tqdm: bool = False, **_: Any
    ) -> list[tuple[float, bool]]:
        pairs = [Pair(context, continuation) for _, context, continuation in requests]
        self._check(pairs)
        found: list[tuple[float, bool]] = [(0.0, True)] * len(pairs)
        numbers = [number for number, pair in enumerate(pairs) if pair.continuation]
        scores = continuation_scores(
            self.model,
            [pairs[number] for number in numbers],
            self.max_length,
            self._decoder.together,
            self.batch_size,
            self._pad,
        )
        for place, total, greedy in tqdm(
            scores, "loglikelihood", len(numbers), disable=disable_tqdm or None
        ):
            if math.isnan(total):
                raise UserError(
                    "run: the model's scores are NaN; give a checkpoint of an earlier step, or use "
                    "dtype float32"
                )
            number = numbers[place]
            found[number] = (total, greedy)
            if (texts := requests[number][0]) is not None:
                self.cache_hook.add_partial("loglikelihood", texts, found[number])
        return found

    def _check(self, pairs: Sequence[Pair]) -> None:
        """Refuse what cannot be scored, and tell what is cut.

        Raises:
            UserError: a continuation is longer than what the model reads.
        """
        longest = max((len(one.continuation) for one in pairs), default=0)
        if longest > self.max_length:
            raise UserError(
                f"max_length: an answer of the tasks has {longest} tokens and the model reads at "
                f"most {self.max_length}; leave out that task"
            )
        empty = sum(not one.continuation for one in pairs)
        if empty:
            tell(f"tasks: {empty} answers have no tokens; the score of each is 0")
        most = self.max_length + 1
        cut = sum(len(one.context) + len(one.continuation) > most for one in pairs)
        if cut:
            tell(f"tasks: {cut} of {len(pairs)} contexts are cut at their beginning to fit")

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[float]:
        """Log-probability of whole texts, in nats, in windows of ``max_length`` tokens."""
        windows: list[tuple[None, list[int], list[int]]] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            found = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            for window in map(make_disjoint_window, found):
                windows.append((None, *window))
                owners.append(number)
        totals = [0.0] * len(requests)
        each = self._loglikelihood_tokens(windows, disable_tqdm)
        for owner, (total, _) in zip(owners, each, strict=True):
            totals[owner] += total
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """What the model writes behind contexts, greedily, up to a text that ends it.

        Raises:
            UserError: a task asks for samples or beams, or leaves no room for a context.
        """
        found = [""] * len(requests)
        for settings, numbers in by_settings(requests, self.max_length):
            room = self.max_length - settings.most
            ids = [self._context(requests[number].args[0], room) for number in numbers]
            cut = sum(whole > room for _, whole in ids)
            if cut:
                tell(f"tasks: {cut} of {len(ids)} contexts are cut at their beginning to fit")
            order = sorted(range(len(ids)), key=lambda place: -len(ids[place][0]))
            starts = range(0, len(order), self.batch_size)
            for start in tqdm(starts, "generate_until", disable=disable_tqdm or None):
                part = order[start : start + self.batch_size]
                rows = [ids[place][0] for place in part]
                texts = written_texts(
                    self.model,
                    self._decoder,
                    self.tokenizer,
                    rows,
                    settings,
                    self.eot_token_id,
                    self._pad,
                )
                for place, text in zip(part, texts, strict=True):
                    number = numbers[place]
                    found[number] = text
                    self.cache_hook.add_partial("generate_until", requests[number].args, text)
        return found

    def _context(self, text: str, room: int) -> tuple[list[int], int]:
        """The last tokens of a context, as many as there is room for; and how many it has."""
        ids = self.tok_encode(text) or [self.prefix_token_id]
        return ids[-room:], len(ids)
