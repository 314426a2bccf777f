"""A small SentencePiece BPE model with ERNIE's flags, its `tokenizer.json`, and goldens.

The id layout follows the real one: 0..2 control, 3..12 digits, 13..268 bytes,
269 two spaces, then merges, characters, control pieces, added tokens.
"""

import json
import random
import tempfile
from pathlib import Path

import sentencepiece as spm
from sentencepiece import sentencepiece_model_pb2 as pb
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers.tokenization_utils_base import generate_merges

OUT = Path(__file__).resolve().parent.parent / "recorded" / "tokenizer"

SENTENCES = """
The following string should be properly encoded: Hello.
This is a test, and that was a sample test; the next one is longer.
You are a helpful chatbot. What kind of dog is this? Picture 1: a red square above a blue circle.
User: Hello! Assistant: Nice to meet you. How many animals are there in the picture?
A small house stands on the hill; two trees grow near it, and the sky is dark and grey.
There are three yellow stars to the left of the green ring, and a purple one behind it.
def main(args):    return [x for x in args if x.startswith("--")]
for (let i = 0; i < items.length; i++) {      console.log(items[i], "done");  }
if err != nil {        return fmt.Errorf("cannot open %s: %w", path, err)    }
Le café est fermé à midi, mais où peut-on déjeuner près d'ici?
Der Bär läuft über die Straße, während es schön schneit.
今天天气很好，我们去公园看花吧。图片里有什么？
这是一个测试，请回答下面的问题：图中有几只猫？
こんにちは、世界。写真には何が写っていますか。
안녕하세요 세계, 이 그림에는 무엇이 있습니까?
Привет, мир! Что изображено на этой картинке?
Γειά σου Κόσμε, τι κάνεις σήμερα;
مرحبا بالعالم، ماذا يوجد في هذه الصورة؟
שלום עולם, מה שלומך היום?
ปี และ ด ในภาษาไทย
नमस्ते दुनिया, यह एक परीक्षण है।
The price is 1234567 or 3.14159, on 2025-06-30 at 12:45.
""".strip().split("\n")

CONTROL_PIECES = [
    "<mask:1>", "<mask:4>", "<mask:5>", "<mask:6>", "<mask:7>",
    "<|end_of_sentence|>", "<|begin_of_sentence|>",
]
ADDED = (
    ["<|IMAGE_PLACEHOLDER|>", "<|AUDIO_PLACEHOLDER|>"]
    + [f"<|LOC_{i}|>" for i in range(11)]
    + ["<|LOC_BEGIN|>", "<|LOC_END|>", "<|LOC_SEP|>", "<|CROP_COL_SEP|>", "<|CROP_ROW_SEP|>", "<|IMAGE_SEP|>",
       "<|IMAGE_START|>", "<|IMAGE_END|>", "<|VIDEO_START|>", "<|VIDEO_END|>",
       "<think>", "</think>", "<tool_call>", "</tool_call>", "<response>", "</response>",
       "<|im_start|>", "<|im_end|>", "<|VIDEO_PLACEHOLDER|>"]
)


def corpus(rng):
    words = [w for s in SENTENCES for w in s.split()]
    for s in SENTENCES:
        yield from [s] * 20
    for _ in range(3000):
        yield " ".join(rng.choices(words, k=rng.randint(3, 12)))
    for _ in range(300):
        yield " " * rng.choice([2, 4, 4, 8, 8, 12]) + rng.choice(words) + " " * rng.randint(1, 6) + ","


def train(path):
    rng = random.Random(1)
    with tempfile.TemporaryDirectory() as tmp:
        text = Path(tmp) / "corpus.txt"
        text.write_text("\n".join(corpus(rng)))
        spm.SentencePieceTrainer.train(
            input=str(text), model_prefix=f"{tmp}/m", model_type="bpe", vocab_size=1200,
            byte_fallback=True, add_dummy_prefix=False, remove_extra_whitespaces=False,
            split_digits=True, allow_whitespace_only_pieces=True, normalization_rule_name="identity",
            user_defined_symbols=[str(d) for d in range(10)], character_coverage=0.995,
            unk_id=0, bos_id=1, eos_id=2, pad_id=-1, num_threads=1, minloglevel=2)
        model = pb.ModelProto()
        model.ParseFromString((Path(tmp) / "m.model").read_bytes())
    model.trainer_spec.input[:] = ["corpus.txt"]
    model.trainer_spec.model_prefix = "tokenizer"
    for piece in CONTROL_PIECES:
        model.pieces.add(piece=piece, score=0.0, type=pb.ModelProto.SentencePiece.CONTROL)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return model


def tokenizer_json(model):
    """The Llama conversion with legacy = true and add_prefix_space = false."""
    vocab = {p.piece: i for i, p in enumerate(model.pieces)}
    tok = Tokenizer(BPE(
        vocab, generate_merges(vocab), unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tok.normalizer = normalizers.Sequence([normalizers.Replace(" ", "▁")])
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    kinds = pb.ModelProto.SentencePiece
    tok.add_special_tokens([AddedToken(p.piece, normalized=False, special=True)
                            for p in model.pieces if p.type in (kinds.UNKNOWN, kinds.CONTROL)])
    tok.add_tokens([AddedToken(str(d), normalized=False, special=False) for d in range(10)])
    tok.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in ADDED])
    return tok


PROPERTY = [
    # the texts of the published goldens, whose ids need the real vocabulary
    "The following string should be properly encoded: Hello.", "But ird and ปี   ird   ด",
    "This is a test", "A sample test",
    "Hey<eos>. \t\t \n\nyou  é  @#😈  🤗!       , 1234 15 5,61",
    " ", "  ", " Hello", "hello", "<s> Hello<s>how", " <s> Hello<s> how", "lekacy", "",
    "   ", "\t", "\n", "\r\n", "\n\n\n", " \n ", "a  b   c    d", "trailing ", "trailing   ",
    "0", "42", "1234567", "3.14159", "-12", "a1b2c3", "１２３", "٣٤", "x²", "½",
    "😈", "🤗!", "👩‍👩‍👧", "🇫🇷", "e\u0301", "é", "\u00a0", "\u200b", "\ufeff", "\u3000", "\u0000", "\u0007",
    "▁", "a▁b", "▁▁", " ▁ ", "<0x41>", "<0xZZ>", "<0xE4><0xBD>", "<unk>", "<s>", "</s>",
    "a</s>b", "<unk><unk>", "<mask:1>", "x<mask:4>y", "\U0010ffff", "\ud7ff", "ﬁ", "Ａ", "ß", "İ", "ǆ",
    "𝔘𝔫𝔦", "ｶﾞ", "\u1100\u1161", "각", "<", ">", "<|", "|>", "<||>", "< |IMAGE_START|>", "<|IMAGE_START|",
    "<|image_start|>", "<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>", "a<|IMAGE_END|>b",
    "<|LOC_1|><|LOC_10|>", "<|LOC_11|>", "<|LOC_1", "<think>\n\n</think>\n\n", "<think", "<|im_start|>user\nHi<|im_end|>\n\n",
    "<|begin_of_sentence|>User: Hello!\nAssistant: ",
    "<|begin_of_sentence|>You are a helpful chatbot.\nUser: Hello!\nAssistant: Nice to meet you.<|end_of_sentence|>",
    "<|begin_of_sentence|>User: What kind of dog is this?Picture 1:<|IMAGE_START|><|image@placeholder|><|IMAGE_END|>\nAssistant: <think>\n\n</think>\n\n",
    " <|begin_of_sentence|> ", "  <|IMAGE_START|>  x", "<|IMAGE_START|>Hello", "<|IMAGE_START|> Hello",
    "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>", "<response>ok</response>",
    "I typed <|IMAGE_PLACEHOLDER|> by hand", "</s></s>", "<s>1</s>2",
]


def texts():
    rng = random.Random(2)
    out = list(PROPERTY) + list(SENTENCES)
    words = [w for s in SENTENCES for w in s.split()]
    special = CONTROL_PIECES + ADDED + ["<s>", "</s>"]
    pools = [
        lambda: rng.choice(words), lambda: " " * rng.randint(1, 7), lambda: str(rng.randint(0, 99999)),
        lambda: rng.choice("\t\n.,;:!?()[]{}'\"\\/-_=+*&^%$#@~`|<>"), lambda: rng.choice(special),
        lambda: chr(rng.choice([0x1f600, 0x4e00, 0x3b1, 0x5d0, 0x900, 0xac00, 0x2190]) + rng.randint(0, 90)),
    ]
    while len(out) < 260:
        weights = [6, 3, 2, 2, 1 if len(out) % 2 else 0, 1]
        out.append("".join(f() for f in rng.choices(pools, weights, k=rng.randint(2, 14))))
    return list(dict.fromkeys(out))


def byte_level():
    """A byte-level BPE as SmolLM2 has: single digits, then ByteLevel."""
    out = OUT.parent / "tokenizer_bytes"
    out.mkdir(parents=True, exist_ok=True)
    tok = Tokenizer(BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tok.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tok.train_from_iterator(corpus(random.Random(1)), trainers.BpeTrainer(
        vocab_size=700, special_tokens=specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tok.save(str(out / "tokenizer.json"))
    strings = []
    for text in texts() + specials + [f"a{s} b" for s in specials]:
        tok.encode_special_tokens = True
        plain = tok.encode(text, add_special_tokens=False).ids
        tok.encode_special_tokens = False
        special = tok.encode(text, add_special_tokens=False).ids
        assert tok.decode(plain, skip_special_tokens=False) == text
        strings.append({"text": text, "ids": plain, "ids_special": special,
                        "decode": tok.decode(special, skip_special_tokens=False),
                        "decode_skip_special": tok.decode(special, skip_special_tokens=True)})
    lines = ",\n".join(json.dumps(x, ensure_ascii=False) for x in strings)
    special = {t: tok.token_to_id(t) for t in specials}
    (out / "goldens.json").write_text(
        f'{{"vocab_size": {tok.get_vocab_size()}, "special": {json.dumps(special)}, "strings": [\n{lines}\n]}}\n')
    print(len(strings), "byte-level strings")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    model = train(OUT / "tokenizer.model")
    tok = tokenizer_json(model)
    tok.save(str(OUT / "tokenizer.json"))
    sp = spm.SentencePieceProcessor(model_file=str(OUT / "tokenizer.model"))
    base = sp.vocab_size()
    added = {t: tok.token_to_id(t) for t in ADDED}
    assert [added[t] for t in ADDED] == list(range(base, base + len(ADDED)))
    assert [sp.piece_to_id(str(d)) for d in range(10)] == list(range(3, 13))
    assert sp.piece_to_id("<0x00>") == 13 and sp.piece_to_id("<0xFF>") == 268

    def write(name, value):
        (OUT / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")

    write("added_tokens.json", added)
    write("tokenizer_config.json", {
        "tokenizer_class": "Ernie4_5_Tokenizer", "tokenizer_type": "ernie", "bos_token": "<s>",
        "eos_token": "</s>", "pad_token": "<unk>", "unk_token": "<unk>", "sep_token": "<|end_of_sentence|>",
        "cls_token": "<|begin_of_sentence|>", "mask_token": "<mask:1>", "sys_start_token": "<mask:4>",
        "sys_end_token": "<mask:5>", "header_start_token": "<mask:6>", "header_end_token": "<mask:7>",
        "clean_up_tokenization_spaces": False})
    write("special_tokens_map.json", {
        "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<unk>", "unk_token": "<unk>",
        "cls_token": "<|begin_of_sentence|>", "sep_token": "<|end_of_sentence|>", "mask_token": "<mask:1>"})

    def encode(text, special):
        tok.encode_special_tokens = not special
        return tok.encode(text, add_special_tokens=False).ids

    goldens, differ = [], []
    for text in texts():
        plain, special = encode(text, False), encode(text, True)
        if plain != sp.encode(text):
            differ.append(text)
            continue
        goldens.append({
            "text": text, "ids": plain, "ids_special": special,
            "decode": tok.decode(special, skip_special_tokens=False),
            "decode_skip_special": tok.decode(special, skip_special_tokens=True)})
        assert "▁" in text or tok.decode(plain, skip_special_tokens=False) == text, text
    b = lambda *xs: [13 + x for x in xs]
    runs = [
        b(0xF0, 0x9F, 0x98, 0x88), b(0xF0, 0x9F, 0x98), b(0xE4, 0xBD, 0xA0, 0x41), b(0xE4, 0xBD, 0x41),
        b(0x41, 0xFF, 0x42), b(0xC3, 0xA9), b(0xC3), b(0xC3, 0xA9, 0xC3), b(0x80), b(0xED, 0xA0, 0x80),
        b(0xF0, 0x9F) + [4] + b(0x98, 0x88), [4, 5, 6], [269, 269], [1, 4, 2], [269] + b(0x0A) + [269],
        [sp.piece_to_id("▁")] + b(0xE4, 0xBD, 0xA0) + [added["<|IMAGE_END|>"]] + b(0xE5, 0xA5, 0xBD),
    ]
    # An invalid run of byte tokens: `tokenizers` gives one U+FFFD per byte of the
    # whole run, SentencePiece keeps the characters in it that are valid.
    decodes = [{"ids": r, "hf": tok.decode(r, skip_special_tokens=False),
                "sentencepiece": sp.decode(r) if max(r) < base else None} for r in runs]
    # Streaming: the text that is safe to show after each token.
    streams = []
    for text in ("😈 ok 🤗", "你好 é 12  x", "Hey<eos>. \t\t \n\nyou  é  @#😈"):
        ids = encode(text, False)
        shown = [tok.decode(ids[: i + 1], skip_special_tokens=False).rstrip("\ufffd") for i in range(len(ids))]
        streams.append({"text": text, "ids": ids, "prefixes": shown})
    special = {t: tok.token_to_id(t) for t in ["<unk>", "<s>", "</s>", *CONTROL_PIECES, *ADDED]}
    head = json.dumps({"sentencepiece_pieces": base, "vocab_size": base + len(ADDED), "special": special})
    lists = [f'"{name}": [\n' + ",\n".join(json.dumps(x, ensure_ascii=False) for x in items) + "\n]"
             for name, items in (("strings", goldens), ("decodes", decodes), ("streams", streams))]
    (OUT / "goldens.json").write_text(head[:-1] + ",\n" + ",\n".join(lists) + "}\n")
    print(len(goldens), "strings;", "left out, sentencepiece and tokenizers differ:", differ)
    print("pieces", base, model.pieces[269].piece, [p.piece for p in model.pieces[269:300]])


if __name__ == "__main__":
    main()
    byte_level()
