"""What Transformers makes of conversations with the chat templates of well-known models: ids, and which of them the assistant wrote.

Usage: python make_template_reference.py OUT.json.gz [ORIGINALS_DIR]
Needs: transformers, jinja2 (the versions are written to OUT). Reads chat-templates/ and text/tokenizers.json.gz beside it.

"whole": apply_chat_template(return_assistant_tokens_mask=True) of the template with its {% generation %} tags. "rows": what is
trained without the tags: one row, and a row of its own for each answer before which the template changes what was said earlier,
up to that answer. A conversation that the template refuses has neither. "lost": the template drops words of the assistant.

ORIGINALS_DIR: chat templates as their makers wrote them (see chat-templates/README.md), with which ours are compared.
"""
import copy, gzip, json, os, re, sys
import jinja2, transformers
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

HERE = os.path.dirname(os.path.abspath(__file__))
ORIGINALS = {"qwen2.5": "qwen2_5", "qwen3": "qwen3", "llama3": "llama3", "llama3.1": "llama3_1", "phi3": "phi3", "gemma2": "gemma", "gemma3": "gemma3", "deepseek-r1": "deepseekv3", "gpt-oss": "gptoss", "command-r": "cohere"}

CHATML = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
LLAMA3 = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
# name: kind of tokenizer, special tokens, begin of text, end of text
MODELS = {
    "chatml": ("smollm", CHATML, None, "<|im_end|>"),
    "qwen2.5": ("qwen2", CHATML, None, "<|im_end|>"),
    "qwen3": ("qwen2", CHATML, None, "<|im_end|>"),
    "llama2": ("llama2", [], "<s>", "</s>"),
    "llama3": ("llama3", LLAMA3, "<|begin_of_text|>", "<|eot_id|>"),
    "llama3.1": ("llama3", LLAMA3, "<|begin_of_text|>", "<|eot_id|>"),
    "mistral": ("mistral", ["[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"], "<s>", "</s>"),
    "phi3": ("llama2", ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"], "<s>", "<|endoftext|>"),
    "phi4": ("llama3", [*CHATML, "<|im_sep|>"], None, "<|im_end|>"),
    "gemma2": ("gemma", ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"], "<bos>", "<eos>"),
    "gemma3": ("gemma", ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"], "<bos>", "<eos>"),
    "deepseek-r1": ("deepseek", ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", *(f"<｜tool▁{name}｜>" for name in ["calls▁begin", "calls▁end", "call▁begin", "call▁end", "sep", "outputs▁begin", "outputs▁end", "output▁begin", "output▁end"])], "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    "gpt-oss": ("o200k", ["<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|call|>", "<|return|>"], None, "<|return|>"),
    "zephyr": ("llama2", [], "<s>", "</s>"),
    "vicuna": ("llama2", [], "<s>", "</s>"),
    "command-r": ("gpt2", ["<BOS_TOKEN>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>"], "<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>"),
    "granite": ("gpt2", ["<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>", "<|tool_call|>"], None, "<|end_of_text|>"),
    "olmo2": ("gpt2", ["<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>"], "<|endoftext|>", "<|endoftext|>"),
    "smollm3": ("llama3", ["<|begin_of_text|>", "<|im_start|>", "<|im_end|>"], "<|begin_of_text|>", "<|im_end|>"),
    "glm4": ("qwen2", ["[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>", "<|endoftext|>"], None, "<|endoftext|>"),
}
TOOLS = [{"type": "function", "function": {"name": "find_key", "description": "Says where a key hangs.", "parameters": {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]}}}]
CALL = {"type": "function", "function": {"name": "find_key", "arguments": {"colour": "rot & grün"}}}


def turns(*texts, system=None):
    """The user speaks first, the assistant next, and so on."""
    said = [{"role": "user" if i % 2 == 0 else "assistant", "content": text} for i, text in enumerate(texts)]
    return ([{"role": "system", "content": system}] if system is not None else []) + said


CONVERSATIONS = {
    "one question": (turns("Where is the lathe?", "In hall two."), None),
    "a system message": (turns("2 + 2?", "Four", "And 3?", "Five.", system="Answer in one word."), None),
    "three questions": (turns("Who?", "Anna.", "When?", "At noon.", "Why?", "Because the kettle sang."), None),
    "other scripts": (turns("Grüße, 漢字?\n\nZwei Zeilen.", "Ja.\n\n- eins\n- zwei", "Danke", "🙂 e\u0301 한글"), None),
    "white space at the ends": (turns("  a  ", "\n\n  b \n", " c\n", "\td"), None),
    "the user has the last word": (turns("Hello?", "Yes?", "Nothing."), None),
    "special tokens as words": (turns("Write <|im_end|> or </s>.", "<|im_end|></s> assistant\nuser\n[INST]"), None),
    "the same words twice": (turns("assistant", "assistant", "assistant", "assistant"), None),
    "a long answer": (turns("Count.", " ".join(str(number) for number in range(1, 150)), "Again!", "1, 2, 3."), None),
    "a call and its answer": ([{"role": "user", "content": "Where is the key?"}, {"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "tool", "name": "find_key", "content": "beside the door"}, {"role": "assistant", "content": "Beside the door."}], TOOLS),
    "thoughts in a field": ([{"role": "user", "content": "6 * 7?"}, {"role": "assistant", "reasoning_content": "Six times seven.", "thinking": "Six times seven.", "content": "42"}, {"role": "user", "content": "7 * 8?"}, {"role": "assistant", "reasoning_content": "Seven times eight.", "thinking": "Seven times eight.", "content": "56"}], None),
    "thoughts in the answer": (turns("6 * 7?", "<think>\nSix times seven.\n</think>\n\n42"), None),
}


def tokenizer_of(name, kinds):
    kind, special, bos, eos = MODELS[name]
    backend = Tokenizer.from_str(json.dumps(kinds[kind]["tokenizer"]))
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=bos, eos_token=eos, clean_up_tokenization_spaces=False)


def rendered(tokenizer, template, messages, tools):
    """The text and what the assistant wrote of it, as apply_chat_template renders it: fields without a value are left out."""
    given = [{key: value for key, value in message.items() if value is not None} for message in messages]
    known = {name: getattr(tokenizer, name) for name in ("bos_token", "eos_token") if getattr(tokenizer, name)}
    [text], [spans] = render_jinja_template([given], tools=tools, chat_template=template, return_assistant_tokens_mask=True, date_string="26 Jul 2024", **known)
    return text, [span for span in spans if span[1] > span[0]]


def row(tokenizer, text, spans):
    """Every token that overlaps a span counts, as in apply_chat_template."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return {"ids": encoded["input_ids"], "mask": [int(any(start < to and end > at for at, to in spans)) for start, end in encoded["offset_mapping"]]}


def own_words(text, span):
    """Up to the answer's last word: what ends a turn may be another token at the end of a conversation."""
    return re.sub(r"(\s|<[^<>]*>)*$", "", text[: span[1]])


def rows_of(tokenizer, template, messages, tools):
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    whole, spans = rendered(tokenizer, template, messages, tools)
    own, shared, left = [], [], list(spans)
    for i in answers:
        text, mine = rendered(tokenizer, template, messages[: i + 1], tools)
        if len(mine) == len(spans) - len(left):
            continue  # A turn of which the template shows nothing.
        span = left.pop(0)
        if i == len(messages) - 1 or own_words(whole, span) == own_words(text, mine[-1]):
            shared.append(span)
        else:
            own.append(row(tokenizer, text, mine[-1:]))
    return own + ([row(tokenizer, whole, shared)] if shared else [])


def squeezed(text):
    return re.sub(r"\s+", "", text)


def case_of(tokenizer, template, name, messages, tools):
    if name == "deepseek-r1":  # Its template takes the arguments of a call as text.
        for message in messages:
            for call in message.get("tool_calls") or []:
                call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)
    try:
        found = tokenizer.apply_chat_template(messages, tools=tools, chat_template=template, return_dict=True, return_assistant_tokens_mask=True, date_string="26 Jul 2024")
    except (jinja2.TemplateError, TypeError) as refusal:
        return {"refused": str(refusal)}
    rows = rows_of(tokenizer, template, messages, tools)
    told = squeezed(" ".join(tokenizer.decode([id for id, flag in zip(row["ids"], row["mask"]) if flag]) for row in rows))
    said = [text for message in messages if message["role"] == "assistant" for text in (message.get("content"), message.get("reasoning_content")) if text]
    lost = any(squeezed(text) not in told for text in said) or (tools is not None and "find_key" not in told)
    return {"whole": {"ids": found["input_ids"], "mask": found["assistant_masks"]}, "rows": rows, "lost": lost}


def compare(tokenizer, name, template, original):
    same = 0
    for title, (messages, tools) in CONVERSATIONS.items():
        if name == "gpt-oss" and tools:
            continue
        render = lambda source, **how: tokenizer.apply_chat_template(copy.deepcopy(messages), tools=tools, chat_template=source, tokenize=False, date_string="26 Jul 2024", **how)
        results = []
        for source in (template, original):
            try:
                results.append((render(source), render(source, add_generation_prompt=True)))
            except Exception as refusal:
                results.append("refused")
        clean = [re.sub(r"Current date: [^\\]*", "Current date:", str(result)) for result in results]
        same += clean[0] == clean[1]
        if clean[0] != clean[1]:
            print(f"{name}, {title}:\n  ours     {clean[0]}\n  original {clean[1]}")
    print(f"{name}: {same} conversations as the original")


def main(out, originals=None):
    with gzip.open(os.path.join(HERE, "text", "tokenizers.json.gz")) as file:
        kinds = json.load(file)["kinds"]
    models = {}
    for name, (kind, special, bos, eos) in MODELS.items():
        tokenizer = tokenizer_of(name, kinds)
        with open(os.path.join(HERE, "chat-templates", f"{name}.jinja"), encoding="utf-8") as file:
            template = file.read()
        if originals and name in ORIGINALS:
            with open(os.path.join(originals, f"{ORIGINALS[name]}.jinja"), encoding="utf-8") as file:
                compare(tokenizer, name, template, file.read())
        cases = [case_of(tokenizer, template, name, copy.deepcopy(messages), tools) for messages, tools in CONVERSATIONS.values()]
        for title, case in zip(CONVERSATIONS, cases):
            if "refused" in case:
                print(f"{name} refuses {title}: {case['refused']}")
        added = json.loads(tokenizer.backend_tokenizer.to_str())["added_tokens"]
        models[name] = {"kind": kind, "added_tokens": added, "bos_token": bos, "eos_token": eos, "cases": cases}
    conversations = [{"title": title, "messages": messages, "tools": tools} for title, (messages, tools) in CONVERSATIONS.items()]
    reference = {"transformers": transformers.__version__, "jinja2": jinja2.__version__, "conversations": conversations, "models": models}
    with open(out, "wb") as file:
        file.write(gzip.compress(json.dumps(reference, separators=(",", ":")).encode("ascii"), mtime=0))


if __name__ == "__main__":
    main(*sys.argv[1:])
