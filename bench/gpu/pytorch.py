"""One part of bench/gpu: train steps of PyTorch + PEFT. Its one argument is a job as JSON; its last line is the result."""

import json
import sys
import time

job = json.loads(sys.argv[1])

import torch  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers import AutoModelForCausalLM, BitsAndBytesConfig  # noqa: E402

torch.manual_seed(0)
torch.set_num_threads(job["threads"])
device = "cuda" if torch.cuda.is_available() else "cpu"
precision = job["precision"]
options = {"dtype": torch.float32 if precision == "fp32" else torch.bfloat16, "device_map": {"": device}}
if precision == "nf4":
    options["quantization_config"] = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )
base = AutoModelForCausalLM.from_pretrained(job["model"], **options)
base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
base.config.use_cache = False
model = get_peft_model(base, LoraConfig(r=job["rank"], lora_alpha=16, target_modules="all-linear"))
for parameter in model.parameters():
    if parameter.requires_grad:
        parameter.data = parameter.data.float()
model.train()
trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
optimiser = torch.optim.AdamW(trained, lr=1e-4)
tokens = torch.randint(base.config.vocab_size, (job["batch"], job["length"]), device=device)


def step():
    optimiser.zero_grad(set_to_none=True)
    with torch.autocast(device, dtype=torch.bfloat16, enabled=precision != "fp32"):
        loss = model(input_ids=tokens, labels=tokens).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimiser.step()
    return loss.item()


started = time.perf_counter()
loss = step()
first_ms = 1000 * (time.perf_counter() - started)
times = []
begun = time.perf_counter()
while len(times) < 20 and (not times or 1000 * (time.perf_counter() - begun) < job["ms"]):
    start = time.perf_counter()
    step()
    times.append(1000 * (time.perf_counter() - start))
step_ms = sorted(times)[len(times) // 2]
print(
    json.dumps(
        {
            "tokensPerSecond": 1000 * tokens.numel() / step_ms,
            "stepMs": step_ms,
            "steps": len(times),
            "firstMs": first_ms,
            "loss": loss,
            "gradientError": None,
            "processMb": torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else None,
            "device": device,
        }
    )
)
