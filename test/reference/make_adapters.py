"""Adapters as PEFT writes them with other fields than plain ones, and the logits that PEFT computes with them.

Usage: python make_adapters.py CASES_DIR OUT_DIR      (CASES_DIR: of make_fixtures.py, which has the base models)
Needs: torch, transformers, peft, safetensors (versions used are written to each case.json).

Each OUT_DIR/NAME/ holds
  adapter/               adapter_config.json, adapter_model.safetensors; lora_B is random rather than zero
  reference.safetensors  input_ids [B,T] int64, logits [B,T,V] fp32, merged.<name of the weight> fp32: two weights of the
                         base after merge_and_unload
  case.json              the case of CASES_DIR whose base it is for, versions
The adapter is saved, loaded again with PeftModel.from_pretrained on the untouched base, and only then measured.
"""
import json, os, shutil, sys
import torch, transformers, peft
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

B, T = 2, 11
ADAPTERS = {
    "rslora": ("llama-untied-bias", dict(r=6, lora_alpha=4, use_rslora=True, target_modules=["q_proj", "up_proj"])),
    # A regular expression, the end of a name, and a name, of which the first that matches counts: PEFT saves them sorted.
    "patterns": ("llama-untied-bias", dict(r=3, lora_alpha=5, target_modules=["q_proj", "v_proj", "down_proj"],
                 rank_pattern={".*\\.[0-1]\\.mlp\\.(up|down)_proj": 5, "down_proj": 2, "layers.1.self_attn.q_proj": 7},
                 alpha_pattern={".*layers\\.\\d+\\.mlp.*": 1.5, "^model.layers.2.self_attn.v_proj": 11})),
    "rslora-patterns": ("llama-untied-bias", dict(r=2, lora_alpha=3, use_rslora=True, target_modules=["k_proj", "o_proj"],
                        rank_pattern={"o_proj": 5}, alpha_pattern={"layers.0.self_attn.k_proj": 8})),
    "regex-targets": ("qwen2", dict(r=3, lora_alpha=9, target_modules=".*layers\\.[12]\\.(self_attn\\.[qk]|mlp\\.up)_proj")),
    "all-linear": ("qwen2", dict(r=2, lora_alpha=2, target_modules="all-linear", lora_dropout=0.3)),
    "some-layers": ("gpt2", dict(r=2, lora_alpha=7, target_modules=["c_attn", "c_fc"], layers_to_transform=[0, 2], fan_in_fan_out=True)),
    "gaussian-excluded": ("llama-gqa-tied", dict(r=4, lora_alpha=6, target_modules="all-linear", exclude_modules=["down_proj"], init_lora_weights="gaussian")),
    "orthogonal": ("llama-gqa-tied", dict(r=4, lora_alpha=6, target_modules=["gate_proj"], init_lora_weights="orthogonal")),
}


def base_of(cases, name):
    return AutoModelForCausalLM.from_pretrained(os.path.join(cases, name, "base"), dtype=torch.float32, attn_implementation="eager")


def make(cases, out, name, seed):
    case, options = ADAPTERS[name]
    torch.manual_seed(seed)
    folder = os.path.join(out, name)
    adapter = os.path.join(folder, "adapter")
    made = get_peft_model(base_of(cases, case), LoraConfig(task_type="CAUSAL_LM", **options))
    with torch.no_grad():
        for key, p in made.named_parameters():
            if p.requires_grad:
                p.copy_(torch.randn_like(p) * 0.2)
    made.peft_config["default"].base_model_name_or_path = ""
    made.save_pretrained(adapter)
    os.remove(os.path.join(adapter, "README.md"))
    model = PeftModel.from_pretrained(base_of(cases, case), adapter).eval()
    ids = torch.randint(0, model.config.vocab_size, (B, T))
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits
    adapted = sorted({key.split(".lora_A")[0].removeprefix("base_model.model.") for key, _ in model.named_parameters() if ".lora_A" in key})
    merged = dict(model.merge_and_unload().named_parameters())
    tensors = {"input_ids": ids, "logits": logits}
    for key in (adapted[0], adapted[-1]):
        tensors["merged." + key + ".weight"] = merged[key + ".weight"].detach()
    save_file({key: value.contiguous() for key, value in tensors.items()}, os.path.join(folder, "reference.safetensors"))
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
    json.dump({"name": name, "base": case, "batch": B, "length": T, "versions": versions}, open(os.path.join(folder, "case.json"), "w"), indent=1)
    print(name, json.load(open(os.path.join(adapter, "adapter_config.json")))["target_modules"])


if __name__ == "__main__":
    shutil.rmtree(sys.argv[2], ignore_errors=True)
    for i, name in enumerate(ADAPTERS):
        make(sys.argv[1], sys.argv[2], name, i + 1)
