"""Makes a small random model of each family and the same model as GGUF, for exports-main.ts and llama.cpp.

  python make_gguf_bases.py TOKENIZER_DIR LLAMA_CPP_DIR OUT_DIR

TOKENIZER_DIR: SmolLM2. LLAMA_CPP_DIR: a source
tree of llama.cpp. Writes OUT_DIR/FAMILY and OUT_DIR/FAMILY.gguf (F32). Needs torch, transformers and gguf.
"""

import shutil
import sys
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
)

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
VOCABULARY = 49_152

shape = dict(
    vocab_size=VOCABULARY, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.2, bos_token_id=1, eos_token_id=2, pad_token_id=2,
)
CONFIGS = {
    "llama": LlamaConfig(**shape, tie_word_embeddings=False),
    "mistral": MistralConfig(**shape, sliding_window=None, head_dim=16),
    "qwen2": Qwen2Config(**shape),
    "qwen3": Qwen3Config(**shape, head_dim=32),
    "gemma3": Gemma3TextConfig(**shape, head_dim=32, sliding_window=128, query_pre_attn_scalar=32),
    "phi3": Phi3Config(**shape, sliding_window=None, original_max_position_embeddings=256),
    "gpt2": GPT2Config(
        vocab_size=VOCABULARY, n_embd=64, n_layer=2, n_head=4, n_positions=256, n_ctx=256, initializer_range=0.2, bos_token_id=1, eos_token_id=2,
    ),
}


def convert(llama_cpp: Path, model_dir: Path) -> None:
    """llama.cpp's own converter, with the same vocabulary for every family."""
    sys.path[:0] = [str(llama_cpp), str(llama_cpp / "gguf-py")]
    import convert_hf_to_gguf as converter
    from conversion.base import TextModel

    def every_class(kind):
        return [kind, *(deeper for sub in kind.__subclasses__() for deeper in every_class(sub))]

    # llama.cpp expects the vocabulary of Phi-3 of a model whose name says so.
    sys.argv = ["convert_hf_to_gguf.py", str(model_dir), "--model-name", "small", "--outtype", "f32", "--outfile", f"{model_dir}.gguf"]
    wanted = converter.get_model_class(converter.get_model_architecture(converter.ModelBase.load_hparams(model_dir, False), converter.ModelType.TEXT))
    for kind in every_class(TextModel):
        if kind is wanted:
            kind.set_vocab = TextModel._set_vocab_gpt2
            # Known by a hash of what it does to a text; some families' classes do something else with the same file.
            kind.get_vocab_base_pre = lambda self, tokenizer: "smollm"
    converter.main()


if __name__ == "__main__":
    tokenizer_dir, llama_cpp, out = map(Path, sys.argv[1:4])
    for seed, (name, config) in enumerate(CONFIGS.items()):
        torch.manual_seed(seed)
        target = out / name
        AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(target)
        for file in TOKENIZER_FILES:
            if (tokenizer_dir / file).exists():
                shutil.copy(tokenizer_dir / file, target / file)
        convert(llama_cpp, target)
        print(name)
