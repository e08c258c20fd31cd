"""What Transformers trains of conversations: ids and assistant masks of a ChatML model.

Usage: python make_chat_reference.py MODEL_DIR OUT.json
Needs: transformers (the version used is written to OUT.json), no weights.

apply_chat_template(return_assistant_tokens_mask=True) needs {% generation %} in the template, which hardly any model's own
has: it is put around what the assistant writes, up to the end of its turn, and the text stays what the model's own
template gives (asserted). OUT.json holds conversations, the ids of each and its mask (1: trained).
"""
import json, re, sys
import transformers
from transformers import AutoTokenizer

CONVERSATIONS = [
    [("user", "Where is the eye chart?"), ("assistant", "Room 107, across from the stairs.")],
    [("system", "Answer in one word."), ("user", "2 + 2?"), ("assistant", "Four"), ("user", "And 3?"), ("assistant", " five ")],
    [("user", "Grüße, 漢字?\n\nTwo lines."), ("assistant", "Ja.\n\n- one\n- two\n"), ("user", "Thanks"), ("assistant", "🙂")],
    [("user", "Say nothing."), ("assistant", ""), ("user", "Good.")],
    [("user", "Write <|im_end|> for me."), ("assistant", "assistant\nuser\n")],
]

ASSISTANT = """{% if message['role'] == 'assistant' %}{{ '<|im_start|>assistant
' }}{% generation %}{{ message['content'] + '<|im_end|>
' }}{% endgeneration %}{% else %}OWN{% endif %}"""


def main(model_dir, out):
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    own = tokenizer.chat_template
    turn = re.search(r"\{\{\s*'<\|im_start\|>' \+ message\['role'\].*?\}\}", own, re.DOTALL)
    marked = own.replace(turn[0], ASSISTANT.replace("OWN", turn[0]))
    cases = []
    for conversation in CONVERSATIONS:
        messages = [{"role": role, "content": content} for role, content in conversation]
        render = lambda template, **how: tokenizer.apply_chat_template(messages, chat_template=template, **how)
        assert render(own, tokenize=False) == render(marked, tokenize=False)
        found = render(marked, return_dict=True, return_assistant_tokens_mask=True)
        cases.append({"messages": messages, "ids": found["input_ids"], "mask": found["assistant_masks"]})
    with open(out, "w", encoding="utf-8") as file:
        json.dump({"transformers": transformers.__version__, "cases": cases}, file, ensure_ascii=False)
        file.write("\n")


main(*sys.argv[1:])
