"""Codes, loss and gradients for packed weights (node/model/packed), by numpy and PyTorch + Transformers + PEFT.

Usage: python make_packed_reference.py CASES_DIR OUT_DIR      (CASES_DIR: test/reference/cases)
Needs: numpy, torch, transformers, peft, safetensors.

For each case and format OUT_DIR/NAME-FORMAT.safetensors holds
  loss [1] fp32, grad.<PEFT tensor name> fp32 for every adapter tensor at the start, of the model with the weights that the
  codes stand for; metadata: for each packed weight the SHA-256 of its codes and of its scales (little-endian float32).

The rules, in float32 throughout:
  int8  one scale a row: largest size / 127; code = nearest whole number to value / scale, ties to even
  int4  one scale for each block of 32 values of a row: value of the largest size / -8 (the positive one of two equal sizes);
        codes from -8 to 7, two a byte, the first in the low half
  bf16  to nearest, ties to even; of linear layers and embeddings
  A scale below the smallest normal float32 is 0. Rows are output features; the output layer is int8 for int4 too, and
  where it is the embeddings, these themselves stay as they are.
"""
import hashlib, json, os, sys
import numpy as np
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

CASES = ["llama-gqa-tied", "llama-untied-bias", "qwen2", "gpt2"]
BLOCK, TINY = 32, np.float32(2.0 ** -126)


def usable(scales):
    return np.where(np.abs(scales) < TINY, np.float32(0), scales).astype(np.float32)


def codes_of(x, scales):
    with np.errstate(divide="ignore", invalid="ignore"):
        codes = np.rint((x / scales).astype(np.float32))
    return np.where(scales == 0, 0, codes).astype(np.int32)


def int8(w):
    scales = usable(np.abs(w).max(1, keepdims=True) / np.float32(127))
    codes = codes_of(w, scales)
    return codes.astype(np.int8), scales, codes.astype(np.float32) * scales


def int4(w):
    rows, width = w.shape
    codes, scales = np.zeros((rows, width), np.int32), []
    for start in range(0, width, BLOCK):
        part = w[:, start:start + BLOCK]
        high, low = part.max(1, keepdims=True), part.min(1, keepdims=True)
        scale = usable(np.where(np.maximum(high, 0) >= -np.minimum(low, 0), np.maximum(high, 0), np.minimum(low, 0)) / np.float32(-8))
        codes[:, start:start + BLOCK] = np.minimum(codes_of(part, scale), 7)
        scales.append(scale)
    scales = np.concatenate(scales, 1).astype(np.float32)
    value = codes.astype(np.float32) * np.repeat(scales, BLOCK, 1)[:, :width]
    half = (codes & 15).astype(np.uint8)
    return half[:, 0::2] | (half[:, 1::2] << 4), scales, value


def bf16(w):
    rounded = torch.from_numpy(w).to(torch.bfloat16)
    return rounded.view(torch.int16).numpy(), np.zeros(0, np.float32), rounded.float().numpy()


def sha256(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def pack(model, form, hashes):
    tied = model.config.tie_word_embeddings
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, (torch.nn.Linear, Conv1D))]
    if tied and form != "bf16":  # the table is read as it is, and multiplied with as codes
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    if form == "bf16":
        layers = [l for l in layers if not (tied and l[0] == "lm_head")]
        name, module = next((n, m) for n, m in model.named_modules() if isinstance(m, torch.nn.Embedding))
        layers.append((name, module))
    for name, module in layers:
        w = module.weight.detach().float().numpy()
        turned = isinstance(module, Conv1D) and form != "bf16"
        codes, scales, value = {"int8": int8, "int4": int8 if name == "lm_head" else int4, "bf16": bf16}[form](np.ascontiguousarray(w.T) if turned else w)
        hashes[f"{name}.weight"] = f"{sha256(codes)} {sha256(scales)}"
        module.weight.data.copy_(torch.from_numpy(np.ascontiguousarray(value.T if turned else value)))


def make(case, out, name, form):
    model = AutoModelForCausalLM.from_pretrained(os.path.join(case, "base"), dtype=torch.float32, attn_implementation="eager")
    hashes = {}
    pack(model, form, hashes)
    lora = PeftModel.from_pretrained(model, os.path.join(case, "adapter"), is_trainable=True)
    given = load_file(os.path.join(case, "reference.safetensors"))
    loss = lora(input_ids=given["input_ids"], labels=given["labels"], use_cache=False).loss
    loss.backward()
    tensors = {"loss": loss.detach().reshape(1)}
    for n, p in lora.named_parameters():
        if p.requires_grad:
            tensors["grad." + n.replace(".default", "")] = p.grad.contiguous()
    save_file(tensors, os.path.join(out, f"{name}-{form}.safetensors"), metadata=hashes)
    print(name, form, round(loss.item(), 5), "against", round(json.load(open(os.path.join(case, "case.json")))["loss"], 5), len(hashes))


if __name__ == "__main__":
    os.makedirs(sys.argv[2], exist_ok=True)
    for name in CASES:
        for form in ["bf16", "int8", "int4"]:
            make(os.path.join(sys.argv[1], name), sys.argv[2], name, form)
