"""PyTorch + PEFT's side of bench/engine: see protocol.ts. Its one argument is the workload as JSON."""

import json
import sys
import time

workload = json.loads(sys.argv[1])

import torch  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

torch.set_num_threads(workload["threads"])
torch.manual_seed(0)
base = AutoModelForCausalLM.from_pretrained(workload["model"], dtype=torch.float32)
rank = workload["rank"]
model = get_peft_model(base, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"))
model.train()
optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
shape = (workload["batch"], workload["length"])
tokens = torch.randint(base.config.vocab_size, shape)
bf16 = workload["precision"] == "bf16"


def step():
    optimiser.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        loss = model(input_ids=tokens, labels=tokens).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    return loss.item()


def peak_bytes():
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


for line in sys.stdin:
    question = json.loads(line)
    if question.get("end"):
        print(json.dumps({"peakBytes": peak_bytes()}), flush=True)
        break
    start = time.perf_counter()
    for _ in range(question["steps"]):
        last = step()
    print(json.dumps({"ms": 1000 * (time.perf_counter() - start), "loss": last}), flush=True)
