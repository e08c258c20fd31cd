"""Small models in the formats of others' quantised checkpoints, and the numbers that they stand for.

Usage: python make_quantised_bases.py OUT_DIR
Needs: numpy, torch, transformers, safetensors, bitsandbytes, gguf.

OUT_DIR/NAME/ holds config.json, the weights as people have them (model.safetensors, or model.gguf), and
expected.safetensors: each quantised weight as float32 [out, in], dequantised
  nf4, nf4-plain  by bitsandbytes (functional.dequantize_4bit of a quant_state whose dtype is float32), with and without
                  double quantisation; blocks are whole within rows here, for bitsandbytes 0.50 on the CPU reads others wrongly
  gptq, gptq-v2   by the formula of AutoGPTQ's QuantLinear: scale x (code - (zero + 1)) with the group of each input from
                  g_idx (here not in order), without the 1 for gptq_v2; packed here as AutoGPTQ packs
  awq             by the formula of AutoAWQ's WQLinear_GEMM: scale x (code - zero); packed here in its order of halves
  gguf-*          by gguf.quants.dequantize; names from gguf.get_tensor_name_map, the order of the rows of Llama's queries
                  and keys as llama.cpp's converter makes it
"""
import json, os, sys
import numpy as np
import torch
import gguf
import bitsandbytes.functional as bnb
from gguf.quants import dequantize, quantize
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

SIZES = dict(vocab_size=40, hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=64)
LLAMA = LlamaConfig(**SIZES, tie_word_embeddings=False)
QWEN2 = Qwen2Config(**{k: v for k, v in SIZES.items() if k != "head_dim"}, tie_word_embeddings=True)
QWEN3 = Qwen3Config(**SIZES, tie_word_embeddings=True)
ORDER = [0, 2, 4, 6, 1, 3, 5, 7]  # of AWQ: which column each half of a word has, from the lowest


def model_of(config, seed):
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config).half().float()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_((torch.randn_like(p) * 0.08 + (1.0 if p.dim() == 1 else 0.0)).half().float())
    return model


def write(out, name, config, tensors, expected, quantisation=None):
    folder = os.path.join(out, name)
    os.makedirs(folder, exist_ok=True)
    raw = json.loads(config.to_json_string(use_diff=False))
    raw.pop("transformers_version", None)
    if quantisation:
        raw["quantization_config"] = quantisation
    json.dump(raw, open(os.path.join(folder, "config.json"), "w"), indent=1, sort_keys=True)
    if tensors is not None:
        save_file({k: v.contiguous() for k, v in tensors.items()}, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    save_file({k: v.float().contiguous() for k, v in expected.items()}, os.path.join(folder, "expected.safetensors"))
    for file in os.listdir(folder):
        os.chmod(os.path.join(folder, file), 0o644)
    print(name, len(expected))


def parts_of(model):
    """The state with halves, and the linear layers of the blocks by name."""
    state = {k: v.half() for k, v in model.state_dict().items() if not (k == "lm_head.weight" and model.config.tie_word_embeddings)}
    layers = {n: m.weight.detach() for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"}
    return state, layers


def nf4(out, name, nested):
    model = model_of(QWEN2, 1)
    state, layers = parts_of(model)
    expected = {}
    for n, w in layers.items():
        packed, q = bnb.quantize_4bit(w.float().contiguous(), blocksize=64, compress_statistics=nested, quant_type="nf4")
        state[f"{n}.weight"] = packed
        for key, value in q.as_dict(packed=True).items():
            state[f"{n}.weight.{key}"] = value
        expected[f"{n}.weight"] = bnb.dequantize_4bit(packed, q)
    write(out, name, model.config, state, expected, dict(quant_method="bitsandbytes", load_in_4bit=True, load_in_8bit=False, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=nested))


def grouped(w, size, groups):
    """[out, in] -> codes [in, out], scales and zero points [groups, out] (float16 scales)."""
    t = w.float().numpy().T
    count = int(groups.max()) + 1
    scales, zeros, codes = np.zeros((count, t.shape[1]), np.float16), np.zeros((count, t.shape[1]), np.int64), np.zeros(t.shape, np.int64)
    for g in range(count):
        part = t[groups == g]
        low, high = np.minimum(part.min(0), 0), np.maximum(part.max(0), 0)
        scales[g] = ((high - low) / 15).astype(np.float16)
        zeros[g] = np.clip(np.rint(-low / scales[g].astype(np.float32)), 1, 15)
    codes = np.clip(np.rint(t / scales[groups].astype(np.float32)) + zeros[groups], 0, 15).astype(np.int64)
    value = (scales[groups].astype(np.float32) * (codes - zeros[groups]).astype(np.float32)).T
    return codes, scales, zeros, torch.from_numpy(np.ascontiguousarray(value))


def words(halves, axis, order=range(8)):
    """Eight codes to an int32 along an axis."""
    h = np.moveaxis(halves, axis, -1)
    h = h.reshape(*h.shape[:-1], h.shape[-1] // 8, 8)
    w = sum(h[..., column].astype(np.uint64) << np.uint64(4 * i) for i, column in enumerate(order))
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(w.astype(np.uint32).view(np.int32), -1, axis)))


def gptq(out, name, version):
    model = model_of(LLAMA, 2)
    state, layers = parts_of(model)
    expected, size = {}, 32
    for n, w in layers.items():
        inputs = w.shape[1]
        groups = np.random.default_rng(5).permutation(inputs) // size  # act order
        codes, scales, zeros, value = grouped(w, size, groups)
        del state[f"{n}.weight"]
        state[f"{n}.qweight"] = words(codes, 0)
        state[f"{n}.qzeros"] = words(zeros - (1 if version == "gptq" else 0), 1)
        state[f"{n}.scales"] = torch.from_numpy(scales)
        state[f"{n}.g_idx"] = torch.from_numpy(groups.astype(np.int32))
        state[f"{n}.bias"] = torch.zeros(w.shape[0], dtype=torch.float16)
        expected[f"{n}.weight"] = value
    write(out, name, model.config, state, expected, dict(quant_method="gptq", bits=4, group_size=size, desc_act=True, sym=False, checkpoint_format=version))


def awq(out, name):
    model = model_of(QWEN2, 3)
    state, layers = parts_of(model)
    expected, size = {}, 32
    for n, w in layers.items():
        codes, scales, zeros, value = grouped(w, size, np.arange(w.shape[1]) // size)
        del state[f"{n}.weight"]
        state[f"{n}.qweight"], state[f"{n}.qzeros"], state[f"{n}.scales"] = words(codes, 1, ORDER), words(zeros, 1, ORDER), torch.from_numpy(scales)
        expected[f"{n}.weight"] = value
    write(out, name, model.config, state, expected, dict(quant_method="awq", bits=4, group_size=size, zero_point=True, version="gemm"))


def gguf_base(out, name, config, arch, kind, table_kind):
    model = model_of(config, 4)
    folder = os.path.join(out, name)
    os.makedirs(folder, exist_ok=True)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    writer = gguf.GGUFWriter(os.path.join(folder, "model.gguf"), gguf.MODEL_ARCH_NAMES[arch])
    writer.add_name("small")
    writer.add_token_list(["a", "b"])
    writer.add_array("test.numbers", [1.5, 2.5])
    expected = {}
    for key, value in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        w = value.numpy().astype(np.float32)
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(key.split(".")[-2]) if arch == gguf.MODEL_ARCH.LLAMA else None
        if heads:
            w = w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)
        kind_here = gguf.GGMLQuantizationType.F32 if w.ndim == 1 else table_kind if "embed" in key or key.startswith("lm_head") else kind
        data = quantize(w, kind_here)
        writer.add_tensor(names.get_name(key, try_suffixes=(".weight", ".bias")), data, raw_dtype=kind_here)
        back = dequantize(data, kind_here).reshape(w.shape)
        if heads:
            back = back.reshape(heads, back.shape[0] // heads // 2, 2, *back.shape[1:]).swapaxes(1, 2).reshape(back.shape)
        expected[key] = torch.from_numpy(np.ascontiguousarray(back))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    write(out, name, config, None, expected)


def six_bits(out):
    """Random blocks of Q6_K, which gguf can read and not write."""
    rng = np.random.default_rng(6)
    data = rng.integers(0, 256, (3, 2 * 210), dtype=np.uint8)
    for block in (0, 210):
        data[:, block + 208:block + 210] = (rng.standard_normal((3, 1)) * 0.01).astype(np.float16).view(np.uint8)
    value = dequantize(data, gguf.GGMLQuantizationType.Q6_K)
    save_file({"blocks": torch.from_numpy(data), "values": torch.from_numpy(value)}, os.path.join(out, "q6_k.safetensors"))
    os.chmod(os.path.join(out, "q6_k.safetensors"), 0o644)


if __name__ == "__main__":
    out, kinds = sys.argv[1], gguf.GGMLQuantizationType
    nf4(out, "nf4", True)
    nf4(out, "nf4-plain", False)
    gptq(out, "gptq", "gptq")
    gptq(out, "gptq-v2", "gptq_v2")
    awq(out, "awq")
    gguf_base(out, "gguf-q4_0", LLAMA, gguf.MODEL_ARCH.LLAMA, kinds.Q4_0, kinds.Q8_0)
    gguf_base(out, "gguf-q8_0", QWEN2, gguf.MODEL_ARCH.QWEN2, kinds.Q8_0, kinds.Q8_0)
    gguf_base(out, "gguf-f16", LLAMA, gguf.MODEL_ARCH.LLAMA, kinds.F16, kinds.F16)
    gguf_base(out, "gguf-bf16", QWEN3, gguf.MODEL_ARCH.QWEN3, kinds.BF16, kinds.F32)
    six_bits(out)
