"""Multiple choice as lm-evaluation-harness scores it: 200 items made here, and what the harness makes of them.

Usage: python make_choices_reference.py MODEL_DIR OUT_DIR [PEFT_DIR]
Needs: torch, transformers, lm-eval, datasets (and peft for PEFT_DIR); OMP_NUM_THREADS=1 on a machine that others use

Writes OUT_DIR/items.jsonl (context, choices, gold) and OUT_DIR/reference.json: acc and acc_norm with their standard
errors, the log-likelihood of each choice of each item, versions. With PEFT_DIR nothing is written, but what the harness
finds with that adapter is printed.
"""
import json, os, random, sys
import datasets, lm_eval, torch, transformers
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

NAMES = ["Anna", "Mr. Okafor", "the doctor", "Ida", "the old sailor", "her brother", "Bo", "the king"]
PLACES = ["in the garden", "by the sea", "at the station", "in room 4", "under the bridge", "on the hill"]
VERBS = ["walked slowly", "sat down", "sang a song", "opened the door", "waited for the train", "lost the key"]
ODD = ["blue of and", "never the the", "a", "running table sky under", "12 % of it", "Umsatz wächst", "he he he", "\"Yes,\" it did not."]


def sentence(pick):
    return f"{pick.choice(NAMES)} {pick.choice(VERBS)} {pick.choice(PLACES)}"


def items(count, pick):
    for i in range(count):
        size = pick.randint(2, 5)
        choices = [f"{pick.choice(VERBS)} {pick.choice(PLACES)}." if pick.random() < 0.5 else pick.choice(ODD) for _ in range(size)]
        gold = pick.randrange(size)
        if pick.random() < 0.6:  # so that more than chance can be right
            choices[gold] = f"{pick.choice(VERBS)} {pick.choice(PLACES)}."
        if len(set(choices)) < size:
            choices = [f"{choice}{'!' * k}" for k, choice in enumerate(choices)]
        context = f"{sentence(pick)}. Then {pick.choice(NAMES)}"
        if i % 10 == 3:
            context = f"Question: Who {pick.choice(VERBS)}?\nAnswer: "  # ends in white space
        if i % 25 == 7:
            context = ""
        if i % 100 == 50:  # longer than the model's context
            context = " ".join(sentence(pick) + "." for _ in range(60)) + " Then " + pick.choice(NAMES)
        yield {"context": context, "choices": choices, "gold": gold}


def evaluate(model, path, **arguments):
    config = {
        "task": "choices", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": path}}, "test_split": "test",
        "output_type": "multiple_choice", "doc_to_text": "{{context}}", "doc_to_choice": "{{choices}}", "doc_to_target": "{{gold}}",
        "metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")],
    }
    hf = HFLM(pretrained=model, dtype="float32", device="cpu", batch_size=1, **arguments)
    return lm_eval.simple_evaluate(model=hf, tasks=[config], log_samples=True, bootstrap_iters=100, task_manager=TaskManager())


if __name__ == "__main__":
    model, out = sys.argv[1], sys.argv[2]
    path = os.path.join(out, "items.jsonl")
    if len(sys.argv) > 3:
        print(json.dumps(evaluate(model, path, peft=sys.argv[3])["results"]["choices"]))
        sys.exit()
    os.makedirs(out, exist_ok=True)
    with open(path, "w") as file:
        for item in items(200, random.Random(7)):
            file.write(json.dumps(item, ensure_ascii=False) + "\n")
    result = evaluate(model, path)
    found = result["results"]["choices"]
    samples = sorted(result["samples"]["choices"], key=lambda sample: sample["doc_id"])
    reference = {
        "acc": found["acc,none"], "accStderr": found["acc_stderr,none"],
        "accNorm": found["acc_norm,none"], "accNormStderr": found["acc_norm_stderr,none"],
        "logLikelihoods": [[round(float(reply[0][0]), 5) for reply in sample["resps"]] for sample in samples],
        "versions": {"lm_eval": lm_eval.__version__, "torch": torch.__version__, "transformers": transformers.__version__, "datasets": datasets.__version__},
    }
    with open(os.path.join(out, "reference.json"), "w") as file:
        json.dump(reference, file)
    print({key: reference[key] for key in ("acc", "accStderr", "accNorm", "accNormStderr")})
