"""The noise of the gradient against sampled tokens, and of that against their distribution.

    python benchmarks/gradient_variance.py                     the packaged SmolLM2-135M
    python benchmarks/gradient_variance.py --model tiny        random weights
    python benchmarks/gradient_variance.py sampler.temp=1 truncation=none

At prompts of MBPP the base model draws `--samples` answers of `--tokens` tokens each, past an end
token, too, by the training temperature and truncation of its recipe; more settings may be typed.
At these contexts the gradient of all weights before the first step is computed

  soft   once for each answer: cross-entropy against the distribution itself;
  hard   `--draws` times for each answer, with every token drawn anew from that distribution, so
         that the contexts stay and only the targets' noise is seen;
  fresh  once for each answer, against the tokens that it consists of: what training does.

Printed are the variances of the gradient of one answer, summed over all weights, as ratios:
of the targets (hard at fixed contexts; soft has none of it), of the contexts (soft, from answer to
answer), and of both (fresh). The last line is the squared distance of hard's mean from soft in
units of what its own noise lets expect: about 1, if the one's expectation is the other.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))  # compose_config


@dataclass
class Moments:
    """Mean and summed variance of vectors that come one at a time (Welford's update)."""

    count: int = 0
    mean: Tensor | None = None
    squares: float = 0.0

    def add(self, vector: Tensor) -> None:
        self.count += 1
        if self.mean is None:
            self.mean = torch.zeros_like(vector)
        before = vector - self.mean
        self.mean += before / self.count
        self.squares += product(before, vector - self.mean)

    @property
    def variance(self) -> float:
        return self.squares / (self.count - 1)


def product(a: Tensor, b: Tensor) -> float:
    """Of vectors as long as a model's weights, summed in double precision a part at a time."""
    parts = zip(a.split(2**22), b.split(2**22), strict=True)
    return sum(float(x.double() @ y.double()) for x, y in parts)


def main() -> None:
    arguments = parse_arguments()
    from runs import compose_config

    from ssd.method.decoding import Decoding
    from ssd.models.chat import encode_prompt, load_tokenizer
    from ssd.models.fetch import fetch
    from ssd.problems.prompts import load_prompts

    config = compose_config(
        f"model={arguments.model}", "data=mbpp", f"data.limit={arguments.samples}",
        "hardware=cpu", "logger=none", *arguments.settings,
    )  # fmt: skip
    weights = fetch(config.model)
    how = Decoding.of(config.sampler.temp, config.truncation)
    tokenizer = load_tokenizer(weights.path)
    prompts = [
        encode_prompt(problem, config.prompt_format, config.model, tokenizer)
        for problem in load_prompts(config.data)[0]
    ]
    measure(Path(weights.path), how, prompts, arguments)


def measure(folder: Path, how: Any, prompts: list[list[int]], arguments: Any) -> None:
    """Draw, differentiate and print."""
    from ssd.models.vocabulary import unnamed_ids
    from ssd.train.base_losses import SoftTarget

    torch.manual_seed(0)
    target = SoftTarget(
        temp=how.temp, top_k=how.top_k, top_p=how.top_p, unnamed=unnamed_ids(folder)
    )
    gradients = Gradients(folder, target)
    soft, fresh, ratios, distances = Moments(), Moments(), [], []
    hard_variance = 0.0
    for prompt in prompts:
        batch = gradients.draw(prompt, arguments.tokens)
        exact = gradients.soft(batch)
        soft.add(exact)
        fresh.add(gradients.hard(batch, batch.labels))
        hard = Moments()
        for labels in gradients.labels(batch, arguments.draws):
            hard.add(gradients.hard(batch, labels))
        hard_variance += hard.variance / len(prompts)
        assert hard.mean is not None
        missed = product(hard.mean - exact, hard.mean - exact)
        distances.append(missed / (hard.variance / hard.count))
        ratios.append(hard.variance / product(exact, exact))
        print(f"{len(ratios)} of {len(prompts)} answers", file=sys.stderr, flush=True)
    total = fresh.variance
    print(
        f"{folder.name}: {how}, {len(prompts)} answers of {arguments.tokens} tokens, "
        f"{arguments.draws} draws each\n"
        f"variance of one answer's gradient   fresh (hard)           1\n"
        f"                                    of its targets (hard)  {hard_variance / total:.3f}\n"
        f"                                    of its contexts (soft) {soft.variance / total:.3f}\n"
        f"hard / soft                         {total / soft.variance:.2f}\n"
        f"targets' noise / |soft|^2           {sum(ratios) / len(ratios):.2f}\n"
        f"mean of hard, distance from soft    {sum(distances) / len(distances):.2f} of its noise"
    )


class Gradients:
    """Gradients of one answer's mean loss by all weights, before the first step."""

    def __init__(self, folder: Path, target: Any) -> None:
        from transformers import AutoModelForCausalLM

        self.network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.target = target

    def draw(self, prompt: list[int], tokens: int) -> Any:
        """An answer drawn from the target's distribution, as a micro-batch of one row."""
        from ssd.train.batches import Example, collate

        ids, cache = torch.tensor([prompt]), None
        drawn: list[int] = []
        with torch.no_grad():
            for _ in range(tokens):
                output = self.network(input_ids=ids, past_key_values=cache, use_cache=True)
                cache = output.past_key_values
                q = self.target.probabilities(output.logits[0, -1:])
                ids = torch.multinomial(q, 1)
                drawn.append(int(ids))
        example = Example("", torch.tensor([*prompt, *drawn]).numpy(), len(prompt))
        return collate([example], [1 / tokens], packing=False)

    def states(self, batch: Any) -> Tensor:
        output: Tensor = self.network.get_decoder()(input_ids=batch.input_ids).last_hidden_state
        return output

    def labels(self, batch: Any, number: int) -> Any:
        """The batch's labels, `number` times drawn anew at the same contexts."""
        marked = batch.labels >= 0
        with torch.no_grad():
            logits = self.network.get_output_embeddings()(self.states(batch)[marked])
            q = self.target.probabilities(logits)
        for _ in range(number):
            labels = batch.labels.clone()
            labels[marked] = torch.multinomial(q, 1)[:, 0]
            yield labels

    def hard(self, batch: Any, labels: Tensor) -> Tensor:
        from ssd.train.loss import weighted_cross_entropy

        head = self.network.get_output_embeddings()
        return self._of(weighted_cross_entropy(self.states(batch), head, labels, batch.weights))

    def soft(self, batch: Any) -> Tensor:
        from ssd.train.base_losses import BaseStates, soft_cross_entropy

        head, states = self.network.get_output_embeddings(), self.states(batch)
        base = BaseStates(states.detach(), head)
        arguments = (states, head, batch.labels, batch.weights, base)
        return self._of(soft_cross_entropy(*arguments, target=self.target))

    def _of(self, loss: Tensor) -> Tensor:
        self.network.zero_grad()
        loss.backward()
        return torch.cat(
            [p.grad.flatten() for p in self.network.parameters() if p.grad is not None]
        )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2_135m", help="a word of conf/model/")
    parser.add_argument("--samples", type=int, default=16, help="answers, one per prompt")
    parser.add_argument("--tokens", type=int, default=64, help="of each answer")
    parser.add_argument("--draws", type=int, default=8, help="of each answer's targets")
    parser.add_argument("settings", nargs="*", help="settings as python train.py takes them")
    return parser.parse_args()


if __name__ == "__main__":
    main()
