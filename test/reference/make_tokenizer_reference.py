"""What Hugging Face's tokenizers (Rust) makes of hostile texts: ids, offsets and decoded text, for every kind of tokenizer.json.

Usage: python make_tokenizer_reference.py OUT.json.gz
Needs: tokenizers, sentencepiece (their versions are written to OUT). Every tokenizer is trained here, on the sentences below.

Training breaks ties in another order each time, so that two runs give other vocabularies, each with its own ids. OUT
holds the texts and, by kind, a tokenizer and [ids, offsets, decoded] of each text. Offsets count code points, the begin
and end of each token. A lone surrogate, which Python cannot hand to Rust, is replaced by U+FFFD here.
"""
import base64, gzip, io, json, os, random, sys
import sentencepiece, tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

CORPUS = """The lathe stands in hall two, and the key hangs beside the door. Anna has the red key; Bob doesn't.
They're sure that it's been there since 2019, we'll see. Room 107 is closed on 12.5.2024 at 17:30!
Who has the key? Nobody knows. The kettle sings, the miller grinds, the thinker thinks of nothing.
Über den Dächern läuft die Größe. Ça va très bien, où est la clé ? El niño comió piñas.
Ключ висит у двери. Мастер закрыл зал. Το κλειδί είναι δίπλα στην πόρτα. المفتاح بجانب الباب.
鍵は扉の横にあります。钥匙在门旁边。열쇠는 문 옆에 있습니다. चाबी दरवाज़े के पास है। กุญแจอยู่ข้างประตู
def turn(key, lock):\n    return {"key": key, "lock": lock}  # 3 tries\n\tif x >= 10: print(x*2)\n
<think>\nNothing.\n</think>\n\n1, 2, 3, 42, 100, 1000, 3.14159
""".strip() * 3

# -- the texts -------------------------------------------------------------------------------------------------------

FIXED = [
    "", " ", "  ", "\n", "\n\n", "\t", " \n ", "\r\n", "a", " a", "a ", "  a  b  ", "a\n\nb", "a \n b", "\u00a0", "a\u00a0b", "\u3000x\u3000",
    "Hello world", "Hello, world! How's it going?", "I'LL WE'VE don't CAN'T it'S", "I'm sure they'd've 's 't 're", "\u017fo it'\u017f", "THE \u212aey",
    "12345", "1 2 3", "3.14159", "1,000,000", "2024-05-12T17:30:00Z", "x2y3", "007", "1234567890123",
    "\u0661\u0662\u0663 \u0967\u0968\u0969 \u0e51\u0e52\u0e53", "\u00bd \u00b2 \u2167 \u2460 \u3289 \u0bf0", "\U0001d7d8\U0001d7d9\U0001d7da", "\uff11\uff12\uff13\uff21\uff22", "a\u0661b\u00b2c\u2167d",
    "e\u0301", "cafe\u0301 caf\u00e9", "n\u0303o", "\u0301", " \u0301a", "a\u0301\u0323\u0308", "a\u0323\u0301", "q\u0307\u0323", "\u1e9b\u0323", "\u0344", "\u212b \u2126 \u212a", "\ufb01ne \ufb02ow", "\u1112\u1161\u11ab\u1100\u1173\u11af", "\ud55c\uae00", "\uff76\uff9e\uff77\uff9f", "\u30ab\u3099", "\u0958\u0929", "\u0f73\u0f75", "\ufdfa", "\u2460\u3392\u33a1", "x\u0338=\u0338", "Z\u0351\u036b\u0343\u036a\u0302\u036ba\u0328\u0301lgo",
    "\U0001f642", "a\U0001f642b", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466", "\U0001f3f3\ufe0f\u200d\U0001f308", "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", "\U0001f44d\U0001f3fd ok", "\u2764\ufe0f", "1\ufe0f\u20e3", "\U0001f642" * 5,
    "\ufeffa", "a\ufeffb", "\ufeff", " \ufeff ", "\u200ba\u200b", "a\u200cb\u200dc", "\u2028a\u2029b", "a\u0085b", "\u0085", "a\u180eb", "\u2060x", "\u00ad soft\u00adhyphen", "\u202eabc\u202c",
    "\x00", "a\x00b", "\x01\x02\x1f\x7f", "\x1b[31mred", "a\x0bb\x0cc", "\ufffd", "a\ufffdb", "\ue000\uf8ff", "\U000f0000\U0010ffff", "\ufdd0\ufffe", "\u0378\u05ff",
    "\ud800", "a\udfffb", "\ud83d x", "x\ude42", "\udc00\ud800",
    "\u0130stanbul I\u0131", "STRASSE Stra\u00dfe \u1e9e", "\u039f\u0394\u039f\u03a3 \u03bf\u03b4\u03cc\u03c2", "\u01c5\u01c8", "\u1f88\u1fb3", "\u13a0\uab70", "\U00010400\U00010428", "\ua7aeX",
    "\u6f22\u5b57\u3068\u304b\u306a\u30ab\u30ca", "\u94a5\u5319\u5728\u95e8\u65c1\u8fb9\u3002", "abc\u6f22\u5b57def", "\U00020000\U0002a700\U0002b820\U0002b920", "\uf900\u4e00", "\uc5f4\uc1e0\ub294 \ubb38", "\u0e01\u0e38\u0e0d\u0e41\u0e08", "\u091a\u093e\u092c\u0940 \u0926\u0930\u0935\u093e\u091c\u093c\u093e", "\u0645\u0641\u062a\u0627\u062d \u0627\u0644\u0628\u0627\u0628\u060c \u061f", "\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd", "\u1000\u1039\u1001", "\u0d15\u0d4d\u0d37",
    "\u2581", "\u2581\u2581a", "a\u2581b", " \u2581 ", "\u2581 a", "\u0120a\u010a", "<0x0A>", "<0x41> x", "##ing", "[UNK]", "<unk>", "\u2581<s>",
    "<s>", " <s> ", "a<s>b", "<s><s>", "</s>\n", "<|end|>", "a <|end|> b", "<|end|", "<|END|>", "<pad>x", "x  <pad>  y", "keyword", "a keyword.", "keywords", "mykeyword", "keyword_", "keyword\u0301", "KEYWORD \uff4bey", "<think>\n\n</think>", "lstrip <l> x", "\n\t<l>x", "x<r>  y", "x <r>\n\n<r> y", "  <b>  <b>  ", "<l><r><b>", "na\u00efve <na\u00efve> <nai\u0308ve>", "<longest><longest-one><long",
    "!!!???", "...", "\u2026\u3002\uff0c\u3001", "a.b,c;d:e", "(a)[b]{c}<d>", "$+<=>^`|~", "\u20ac\u00a3\u00a5", "\u00ab\u00bb\u201c\u201d\u2018\u2019", "--\u2013\u2014", "a/b\\c", "@user #tag http://x.y/z?q=1&r=2", "a_b__c", "C++ C# .NET", "don\u2019t",
    "def f(x):\n    return x\n", "\tif (a && b) {\r\n\t\tc();\r\n\t}", "   indented\n      more", "trailing   \n\n\n", "a\n \nb", "x\n\n  y", "\n\n\nq\n", "{\"a\": [1, 2, {\"b\": null}]}",
    "a" * 300, "ab" * 200, "\u00e9" * 120, "\u6f22" * 120, " " * 50 + "x", "x" + "\n" * 40, "1" * 70, "aA" * 60, "supercalifragilistic" * 10, "=" * 90, "\u0301" * 40, "a " * 60,
]


def texts():
    found = list(FIXED)
    draw = random.Random(7)
    alphabet = [*"abcde KEY.,!?'\n\t 0123<>|", *"éßΣκ漢字ключ한", "\u0301", "\u200d", "\U0001f642", "\u00a0", "\u0663", "▁", "Ġ", "\ufeff", "<s>", "<|end|>", " the", "'ll", "  "]
    while len(found) < 240:
        found.append("".join(draw.choices(alphabet, k=draw.randint(3, 40))))
    return found


# -- the tokenizers --------------------------------------------------------------------------------------------------

CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
INTERSECTION = "|".join([
    r"[\p{Han}]+", r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}&&[^\p{Han}]]++(?i:'s|'t)?", r"\p{N}{1,3}+", r" ?[^\s\p{L}\p{N}]++[\r\n]*+", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
SPECIAL = [AddedToken("<s>", special=True), AddedToken("</s>", special=True), AddedToken("<|end|>", special=True)]


def trained_bytes():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([CORPUS], trainers.BpeTrainer(vocab_size=400, initial_alphabet=sorted(alphabet), show_progress=False))
    return json.loads(tokenizer.to_str())["model"]


def trained_pieces():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    # As SentencePiece trains: no token goes on behind a space.
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=True)
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    corpus = CORPUS.replace("\n", " ").split(". ")
    tokenizer.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=560, special_tokens=special, limit_alphabet=110, max_token_length=8, show_progress=False))
    return json.loads(tokenizer.to_str())["model"]


def trained_unigram(**options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS.split("\n")), model_writer=model, minloglevel=2, model_type="unigram", hard_vocab_limit=False, num_threads=1, **options)
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()), model.getvalue()


def unigram_vocab(processor):
    return [[processor.id_to_piece(i), processor.get_score(i)] for i in range(processor.get_piece_size())]


def charsmap(proto):
    from sentencepiece import sentencepiece_model_pb2
    return base64.b64encode(sentencepiece_model_pb2.ModelProto.FromString(proto).normalizer_spec.precompiled_charsmap).decode()


BYTES, PIECES = trained_bytes(), trained_pieces()
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
GPT2_LEVEL = {**BYTE_LEVEL, "use_regex": True}
LLAMA_DECODER = {"type": "Sequence", "decoders": [
    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
PLAIN_DECODER = {"type": "Sequence", "decoders": LLAMA_DECODER["decoders"][:3]}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def sequence(*steps, name="pretokenizers"):
    return {"type": "Sequence", name: list(steps)}


def whole(model, *, normalizer=None, words=None, decoder=None, added=()):
    config = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": normalizer, "pre_tokenizer": words, "post_processor": None, "decoder": decoder, "model": model}
    tokenizer = Tokenizer.from_str(json.dumps(config))
    tokenizer.add_tokens(list(added))
    return tokenizer


def byte_bpe(words, normalizer=None, added=SPECIAL, **model):
    return whole({**BYTES, **model}, normalizer=normalizer, words=words, decoder=GPT2_LEVEL, added=added)


def piece_bpe(normalizer=None, words=None, decoder=LLAMA_DECODER, **model):
    return whole({**PIECES, "byte_fallback": True, "fuse_unk": True, **model}, normalizer=normalizer, words=words, decoder=decoder, added=SPECIAL[:2] + [AddedToken("<|end|>", normalized=False)])


PREPEND = sequence({"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}, name="normalizers")


def metaspace(scheme, splits):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": splits}


def torture():
    """Added tokens with every combination of lstrip, rstrip, normalized and single_word."""
    return [
        *SPECIAL, AddedToken("<pad>", special=True, lstrip=True, rstrip=True), AddedToken("keyword", single_word=True), AddedToken("KEY", normalized=True), AddedToken("<l>", lstrip=True, normalized=False),
        AddedToken("<r>", rstrip=True, normalized=False), AddedToken("<b>", lstrip=True, rstrip=True), AddedToken("<naïve>", normalized=True), AddedToken("<long", normalized=False), AddedToken("<longest>", normalized=False),
        AddedToken("<longest-one>", normalized=False), AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False), AddedToken("  ", normalized=False)]


def word_piece(**normalizer):
    counted = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=60))
    counted.normalizer, counted.pre_tokenizer = normalizers.BertNormalizer(**normalizer), pre_tokenizers.BertPreTokenizer()
    counted.train_from_iterator([CORPUS], trainers.WordPieceTrainer(vocab_size=420, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False))
    counted.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    return counted


def unigrams():
    plain, _ = trained_unigram(vocab_size=520, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False)
    rules = "\n".join(["2460\t31", "FB01\t66 69", "41 300\tC0", "65 301\tE9", "200B\t", "A0\t20", "9\t20", "3000\t20", "FF21\t41", "FF76 FF9E\t30AC", "AD\t", "0958\t915 93C"])
    with open("/tmp/rules.tsv", "w") as file:
        file.write(rules + "\n")
    custom, proto = trained_unigram(vocab_size=340, normalization_rule_tsv="/tmp/rules.tsv")
    os.remove("/tmp/rules.tsv")
    decoder = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    yield "unigram-byte-fallback", whole({"type": "Unigram", "unk_id": 0, "vocab": unigram_vocab(plain), "byte_fallback": True}, words=metaspace("first", False), decoder=LLAMA_DECODER, added=SPECIAL[:2])
    yield "unigram-nmt-nfkc", whole({"type": "Unigram", "unk_id": 0, "vocab": unigram_vocab(plain), "byte_fallback": False}, normalizer=sequence({"type": "Nmt"}, {"type": "NFKC"}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}, name="normalizers"), words=metaspace("always", True), decoder=decoder, added=SPECIAL[:2])
    strip = [{"type": "Precompiled", "precompiled_charsmap": charsmap(proto)}, {"type": "Strip", "strip_left": False, "strip_right": True}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}]
    yield "unigram-precompiled", whole({"type": "Unigram", "unk_id": 0, "vocab": unigram_vocab(custom), "byte_fallback": False}, normalizer=sequence(*strip, name="normalizers"), words=metaspace("always", True), decoder=decoder, added=SPECIAL[:2])


def kinds():
    yield "gpt2", byte_bpe(GPT2_LEVEL)
    yield "gpt2-prefix-space", byte_bpe({**GPT2_LEVEL, "add_prefix_space": True})
    yield "llama3", byte_bpe(sequence(split(CL100K), BYTE_LEVEL), ignore_merges=True)
    yield "qwen2", byte_bpe(sequence(split(QWEN), BYTE_LEVEL), normalizer={"type": "NFC"})
    yield "o200k", byte_bpe(sequence(split(O200K), BYTE_LEVEL))
    yield "intersection", byte_bpe(sequence(split(INTERSECTION), BYTE_LEVEL))
    yield "smollm", byte_bpe(sequence({"type": "Digits", "individual_digits": True}, GPT2_LEVEL))
    yield "deepseek", byte_bpe(sequence(split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"), split(r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""), BYTE_LEVEL))
    yield "falcon", byte_bpe(sequence({"type": "Punctuation", "behavior": "Contiguous"}, GPT2_LEVEL, {"type": "Digits", "individual_digits": False}, split("[0-9][0-9][0-9]")))
    yield "bloom", byte_bpe(sequence(split(r" ?[^(\s|[.,!?…。，、।۔،])]+"), BYTE_LEVEL))
    yield "splits", byte_bpe(sequence(split("▁", "MergedWithNext", kind="String"), split(r"\d+", "MergedWithPrevious"), split(r"\b", "Isolated"), split(r"[[:punct:]]+", "Contiguous"), split(r"\h{3}", "Isolated"), split(r"\t", "Removed"), BYTE_LEVEL))
    yield "added-tokens", byte_bpe(GPT2_LEVEL, normalizer=sequence({"type": "NFKC"}, {"type": "Lowercase"}, name="normalizers"), added=torture())
    yield "accents", byte_bpe(GPT2_LEVEL, normalizer=sequence({"type": "Strip", "strip_left": True, "strip_right": True}, {"type": "NFKD"}, {"type": "StripAccents"}, name="normalizers"), added=torture())
    yield "nfd", byte_bpe(GPT2_LEVEL, normalizer={"type": "NFD"})
    yield "llama2", piece_bpe(PREPEND)
    yield "gemma", piece_bpe({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}, split(" ", "MergedWithPrevious", kind="String"), PLAIN_DECODER)
    yield "mistral", piece_bpe(None, metaspace("first", False))
    yield "metaspace-always", piece_bpe(None, metaspace("always", True), {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True})
    yield "metaspace-never", piece_bpe(None, metaspace("never", True), PLAIN_DECODER)
    yield "no-byte-fallback", piece_bpe(PREPEND, byte_fallback=False, fuse_unk=False)
    yield from unigrams()
    yield "bert", word_piece(lowercase=True)
    yield "bert-cased", word_piece(lowercase=False, strip_accents=False)
    words = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.train_from_iterator([CORPUS], trainers.WordLevelTrainer(vocab_size=90, special_tokens=["[UNK]"], show_progress=False))
    yield "word-level", words


def main(out):
    strings = texts()
    reference = {"tokenizers": tokenizers.__version__, "sentencepiece": sentencepiece.__version__, "texts": strings, "kinds": {}}
    for name, tokenizer in kinds():
        cases = []
        for text in strings:
            encoded = tokenizer.encode("".join("\ufffd" if 0xD800 <= ord(c) <= 0xDFFF else c for c in text), add_special_tokens=False)
            offsets = [place for offset in encoded.offsets for place in offset]
            cases.append([encoded.ids, offsets, tokenizer.decode(encoded.ids, skip_special_tokens=False)])
        reference["kinds"][name] = {"tokenizer": json.loads(tokenizer.to_str()), "cases": cases}
    with open(out, "wb") as file:
        file.write(gzip.compress(json.dumps(reference, separators=(",", ":")).encode("ascii"), mtime=0))


if __name__ == "__main__":
    main(*sys.argv[1:])
