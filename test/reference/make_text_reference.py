"""Reference values for generation and evaluation of a real model, computed by PyTorch + Transformers.

Usage: python make_text_reference.py MODEL_DIR DATA.jsonl OUT.json
Needs: torch, transformers (versions used are written to OUT.json). fp32 on the CPU, whatever the weights are stored in.

OUT.json holds
  prompts  five of them: text, ids, the 64 ids that greedy decoding adds (it does not stop at the end of a text), and
           margin: the smallest difference, over the 64 steps, of the largest logit to the second largest
  data     of DATA.jsonl, lines with "text" or with "prompt" and "completion", each read alone: tokens that are trained
           (completions and an end-of-text token after each line; of a text all but the first), and loss, their mean
           negative log-likelihood in nats
"""
import json, sys
import torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = [
    "The starling is a bird that",
    "Once the last of the peers had gone home, the old clock in the hall",
    "Q: Which two colours make green?\nA:",
    "def area(width, height):\n",
    "On Monday we mended the roof; on Tuesday, because it rained,",
]
NEW_TOKENS = 64


def greedy(model, ids):
    """NEW_TOKENS ids after `ids`, and the smallest margin of the largest logit."""
    added, margin = [], float("inf")
    past, unread = None, torch.tensor([ids])
    for _ in range(NEW_TOKENS):
        out = model(input_ids=unread, past_key_values=past, use_cache=True)
        top = out.logits[0, -1].topk(2)
        margin = min(margin, (top.values[0] - top.values[1]).item())
        added.append(top.indices[0].item())
        past, unread = out.past_key_values, torch.tensor([added[-1:]])
    return added, margin


def trained_example(tokenizer, line):
    """Ids of one line, and for each whether it is a target that counts."""
    example = json.loads(line)
    if "text" in example:
        ids = tokenizer(example["text"]).input_ids
        counts = [True] * len(ids)
    else:
        ids = tokenizer(example["prompt"]).input_ids
        counts = [False] * len(ids)
        completion = tokenizer(example["completion"], add_special_tokens=False).input_ids
        ids, counts = ids + completion, counts + [True] * len(completion)
    return ids + [tokenizer.eos_token_id], counts + [True]


def evaluate(model, tokenizer, file):
    nats, tokens = 0.0, 0
    for line in open(file, encoding="utf-8"):
        ids, counts = trained_example(tokenizer, line)
        logs = model(input_ids=torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1)
        for row, target, counted in zip(logs, ids[1:], counts[1:]):
            if counted:
                nats, tokens = nats - row[target].item(), tokens + 1
    return {"tokens": tokens, "loss": nats / tokens}


@torch.no_grad()
def main(model_dir, data, out):
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32, attn_implementation="eager").eval()
    prompts = []
    for text in PROMPTS:
        ids = tokenizer(text).input_ids
        added, margin = greedy(model, ids)
        prompts.append({"text": text, "ids": ids, "greedy": added, "margin": margin})
        print(f"{margin:.4f} {tokenizer.decode(added)!r}")
    result = {"prompts": prompts, "data": evaluate(model, tokenizer, data),
              "versions": {"torch": torch.__version__, "transformers": transformers.__version__}}
    print(result["data"])
    json.dump(result, open(out, "w"), indent=1)


if __name__ == "__main__":
    main(*sys.argv[1:4])
