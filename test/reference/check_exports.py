"""Loads what exports-main.ts wrote with the programs it is for, and says how far they are from each other.

  python check_exports.py MODEL_DIR OUT_DIR [LLAMA_CPP_DIR]

Needs torch, transformers, peft; with LLAMA_CPP_DIR (a source tree of llama.cpp, as the source package of
llama-cpp-python holds one) also gguf. Exit code 0: the merged model has the logits of PEFT's own merge, and
adapter.gguf the very tensors of llama.cpp's convert_lora_to_gguf.py.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

LOGITS_BOUND = 1e-3


def logits(model) -> torch.Tensor:
    ids = (torch.arange(2 * 16).reshape(2, 16) * 37 + 11) % model.config.vocab_size
    with torch.inference_mode():
        return model(input_ids=ids).logits


def compare_merged(model_dir: str, out: Path) -> bool:
    def base():
        return AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)

    merged = AutoModelForCausalLM.from_pretrained(out / "merged")
    assert merged.dtype == torch.float32, merged.dtype
    ours = logits(merged)
    peft = logits(PeftModel.from_pretrained(base(), str(out / "adapter")).merge_and_unload())
    plain = logits(base())
    difference = (ours - peft).abs().max().item()
    effect = (plain - peft).abs().max().item()
    print(f"merged against PEFT's merge_and_unload: logits differ by {difference:.1e} (the adapter's effect: {effect:.1e})")
    return difference < LOGITS_BOUND < effect


def compare_gguf(model_dir: str, out: Path, llama_cpp: Path) -> bool:
    from gguf import GGUFReader

    with tempfile.TemporaryDirectory() as place:
        target = Path(place) / "theirs.gguf"
        script = llama_cpp / "convert_lora_to_gguf.py"
        command = [sys.executable, str(script), "--base", model_dir, "--outfile", str(target), str(out / "adapter")]
        subprocess.run(command, check=True, capture_output=True)
        theirs, ours = GGUFReader(target), GGUFReader(out / "adapter.gguf")
        expected = {tensor.name: tensor.data for tensor in theirs.tensors}
        found = {tensor.name: tensor.data for tensor in ours.tensors}
        same = expected.keys() == found.keys() and all((expected[name] == found[name]).all() for name in expected)
        for key in ("general.architecture", "general.type", "adapter.type", "adapter.lora.alpha"):
            same = same and theirs.fields[key].contents() == ours.fields[key].contents()
    print(f"adapter.gguf against convert_lora_to_gguf.py: {len(found)} tensors, {'equal' if same else 'NOT equal'}")
    return same


if __name__ == "__main__":
    model_dir, out = sys.argv[1], Path(sys.argv[2])
    results = [compare_merged(model_dir, out)]
    if len(sys.argv) > 3:
        results.append(compare_gguf(model_dir, out, Path(sys.argv[3])))
    sys.exit(0 if all(results) else 1)
