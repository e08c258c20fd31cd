"""PyTorch + PEFT's side of bench/engine: see protocol.ts. Its one argument is the workload as JSON."""

import json
import sys
import time

workload = json.loads(sys.argv[1])

import torch  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers import AutoModelForCausalLM, BitsAndBytesConfig  # noqa: E402

torch.set_num_threads(workload["threads"])
torch.manual_seed(0)
precision = workload["precision"]
options = {"dtype": torch.float32}
if precision == "qlora":
    quantised = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )
    options = {"dtype": torch.bfloat16, "quantization_config": quantised, "device_map": {"": "cpu"}}
base = AutoModelForCausalLM.from_pretrained(workload["model"], **options)
rank = workload["rank"]
model = get_peft_model(base, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"))
for parameter in model.parameters():
    if parameter.requires_grad:
        parameter.data = parameter.data.float()
model.train()
optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
shape = (workload["batch"], workload["length"])
tokens = torch.randint(base.config.vocab_size, shape)
bf16 = precision in ("bf16", "qlora")


def step():
    optimiser.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        loss = model(input_ids=tokens, labels=tokens).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    return loss.item()


for line in sys.stdin:
    steps = json.loads(line)["steps"]
    start, cpu_start = time.perf_counter(), time.process_time()
    for _ in range(steps):
        last = step()
    ms, cpu_ms = 1000 * (time.perf_counter() - start), 1000 * (time.process_time() - cpu_start)
    print(json.dumps({"ms": ms, "cpuMs": cpu_ms, "loss": last}), flush=True)
