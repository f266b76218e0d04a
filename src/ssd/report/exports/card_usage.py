"""How a model card says to use the model: the decoding behind its scores, and code that runs."""

import json
from pathlib import Path

from ssd.arms import BASE
from ssd.artifacts.names import MODEL
from ssd.config.settings import RunConfig
from ssd.method.decoding import Decoding
from ssd.models.chat import chat_messages, user_turn
from ssd.problems.benchmarks.registry import asked_by
from ssd.problems.problem import Problem
from ssd.report.exports.card_metadata import base_model
from ssd.report.render import formats
from ssd.report.render.document import Block, Code, Paragraph
from ssd.report.run.checkpoints import Export
from ssd.report.run.facts import Facts
from ssd.report.run.serving import Usable, chosen_decoding
from ssd.run import lineage
from ssd.run.rounds import begun_from

CODE, VALUE = "Write a function that ...", "How many ..."
WHOLE = """from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForCausalLM.from_pretrained(".")
"""
ADAPTER = """from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({base})
model = AutoPeftModelForCausalLM.from_pretrained(".")
"""
GENERATE = """answer = model.generate(
    **prompt, {sampling}, max_new_tokens={max_new_tokens}
)
new_tokens = answer[0, prompt["input_ids"].shape[1] :]
print(tokenizer.decode(new_tokens, skip_special_tokens=True))"""


def adapted(facts: Facts) -> str:
    """What an adapter belongs onto: the base model or, in a later round, the model it was trained
    on top of."""
    fresh = begun_from(facts.run)[1] == BASE
    return base_name(facts) if fresh else str(lineage.start_folder(facts.run))


def base_name(facts: Facts) -> str:
    """The base model's hub id, its folder, or another description."""
    return base_model(facts) or facts.run.config.model.path or facts.run.weights.source


def decoding(export: Export, part: str) -> list[Block]:
    """The decoding that the checkpoint's scores were made with, in words and as code.

    Args:
        part: `model` for a whole checkpoint, `adapter` for an adapter alone.
    """
    config = export.facts.run.config
    how = chosen_decoding(export)
    clause = "that its scores were made with"
    if not export.scored:
        clause = "configured for it, which was not scored"
    start = WHOLE if part == MODEL else ADAPTER.format(base=json.dumps(adapted(export.facts)))
    rank = None if part == MODEL else config.adapter.rank
    served = Usable(Path("."), adapted(export.facts), how, rank)
    end = GENERATE.format(sampling=_sampling(how), max_new_tokens=config.eval.max_new_tokens)
    return [
        Paragraph(
            f"The decoding {clause}: {formats.decoding(how)}. Temperature comes before top-k, and "
            "top-k before top-p."
        ),
        Code(caption="With transformers", text=f"{start}{_prompt(config)}\n{end}"),
        Code(caption="With vLLM", text=served.serve_line()),
    ]


def _sampling(how: Decoding) -> str:
    if how.temp == 0:
        return "do_sample=False"
    return f"do_sample=True, temperature={how.temp:g}, top_k={how.top_k or 0}, top_p={how.top_p:g}"


def _prompt(config: RunConfig) -> str:
    setting, form = asked_by(config.eval, config.eval.benchmarks[0])
    problem = Problem("", CODE if setting == "eval.prompt_format" else VALUE)
    if not form.chat:
        return f'prompt = tokenizer({json.dumps(user_turn(problem, form))}, return_tensors="pt")'
    turns = chat_messages(problem, form, config.eval_model)
    lines = "".join(f"    {json.dumps(turn)},\n" for turn in turns)
    arguments = config.eval_model.template_args
    named = "".join(f", {name}={value!r}" for name, value in arguments.items())
    if "date" in arguments:
        named += f", strftime_now=datetime.date.fromisoformat({str(arguments['date'])!r}).strftime"
    return (
        ("import datetime\n\n" if "date" in arguments else "") + f"messages = [\n{lines}]\n"
        "prompt = tokenizer.apply_chat_template(\n"
        f'    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"{named}\n'
        ")"
    )
