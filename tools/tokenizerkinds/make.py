"""Makes folders with tokenizers of many kinds and the ids that transformers gives for them.

    python -m venv v && v/bin/pip install transformers==5.24.0 tokenizers==0.23.3 sentencepiece==0.2.3 protobuf tiktoken
    v/bin/python make.py OUT [SEED [files]]
    EDGED_TOKENIZER_KINDS=OUT go test ./plugins/tokenizer-bpe/bpe -run Kinds

Each folder has tokenizer.json, tokenizer_config.json, config.json and cases.jsonl, as the oracle's have. The vocabularies are
trained on the text below. With another seed the random texts and the random mixtures of parts are others.
"""
import json, os, random, shutil, sys, warnings

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
warnings.simplefilter("ignore")
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

OUT, SEED = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1
rnd = random.Random(SEED)
HERE = os.path.dirname(os.path.abspath(__file__))

TRAIN = """The quick brown fox jumps over the lazy dog. It's 10:15, isn't it? They'll say they've seen we're here.
Hello world! This is a house with 1234 windows and 3.14 doors; what's up? def f(x): return x ** 2 # comment
Der Heizkessel im Keller ist warm. Größere Häuser benötigen größere Wärmespeicher, Straße und Füße.
La chaudière de la cave est chaude. ¿Sigue abierta la ventana? Éteins les lampes du garage, s'il te plaît.
Котёл в подвале тёплый. Окно на кухне ещё открыто? Ο λέβητας στο υπόγειο είναι ζεστός.
地下室的锅炉是热的。厨房的窗户还开着吗? 台所の窓はまだ開いていますか。지하실의 보일러가 따뜻하다.
तहखाने का बॉयलर गर्म है। หม้อไอน้ำในห้องใต้ดินอุ่น المرجل في القبو دافئ. הדוד במרתף חם.
café naïve résumé coöperate fiancée jalapeño Zoë piñata ﬁne ½ ² ™ ① 👍 👩‍👩‍👧 don't can't won't I'm""".splitlines()

FIXED = [
    "Hello world", " hello  world   three    four ", " ", "\n", "", "    indented\n\tif x == 3:\n\t\tprint(x ** 2)\n", "a\r\nb\rc\n\n\nd",
    "1 12 123 1234 12345 1234567890 3.14 2,57 10:15 ½ ² ⅷ ٣٤ १२", "Café naïve Å ẛ̣ Å", "Grüße aus Köln: Straße ẞ İstanbul ǅ Ǆ",
    "Привет, как дела? Καλημέρα κόσμε", "今日は世界！你好，世界。カタカナ ｶﾀｶﾅ ー", "안녕하세요 한국어 각", "สวัสดีชาวโลก नमस्ते दुनिया क्ष", "مرحبا بالعالم ١٢٣ שָׁלוֹם",
    "👍🏽 👩‍👩‍👧 🇵🇹 x ☃️ ©‍®", "▁ ▁▁ a▁b ▁c _", "don't can't I'LL they've we're 'S it's O'Neill", "``quoted'' \"x\" ‘y’ “z” … — –",
    "a\u00a0b\u2003c\u200bd\u200de\ufefff\u2028g\u3000h", "tab\tx\x0bvt\x0cff\x1cfs", "x" * 120 + " end", "<s></s><unk><pad><mask>[CLS][SEP][UNK][PAD][MASK]",
    "hello<mask>world <mask> x<|endoftext|>y <extra_id_0> <0x41>", "e\u0301e\u0302\u0323 a\u030a o\u0308\u0304 ệ ế", "ﬁ ﬂ ™ ① ㊗ ㍿ Ⅷ ⁵ ₂ ﷺ ㋿ ℀", "A.B,C;D:E!F?G(H)I[J]{K}L/M\\N|O@P#Q$R%S^T&U*V+W=X~Y`Z",
    "mixedCASE CamelCaseWord HTTPServer iPhone XMLHttp2Request", "𝒳 𝔸 𠀀 𐍈 🀄", "ᄀ각 ᄀᄀ̀ 가̀", "٪ ۔ ، ؟ ।॥ 、。・", "dog dogs dogged underdog lazydog lazy dog.lazy", "1a2b3c 4,5 6.7 8-9 0x1F",
]
ALPHABET = list("abcdeé̈ \t\n.,!?'\"<>|[]/_▁-12३½") + ["é", "ß", "İ", "中", "한", "각", "ᆨ", "क", "ि", "्", "ก", "ำ", "א", "ָ", "👍", "🏽", "\u200d", "\u200b", "\ufeff", "\u00a0", "\u3000", "<s>", "</s>", "<mask>", "lazy", "[CLS]", "``", "''", "™", "㍿", "ﬁ", "\u0301", "\u0323", "\r", "dog", "Hello", "'s", "don't", "  ", "   "]


def texts(n=30):
    out = list(FIXED)
    for _ in range(n):
        out.append("".join(rnd.choice(ALPHABET) for _ in range(rnd.randint(1, 24))))
    return out


NAMES = ["bos", "eos", "unk", "sep", "pad", "cls", "mask"]
COMMON = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "[CLS]", "[SEP]", "[UNK]", "[PAD]", "[MASK]", "<|endoftext|>", "<|startoftext|>", "en_XX", "eng_Latn", "<|startoftranscript|>", "<|notimestamps|>"]


def byte_bpe(specials=("<s>", "</s>", "<unk>"), n=500):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(TRAIN, trainers.BpeTrainer(vocab_size=n, special_tokens=list(specials), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return t


def char_bpe(specials=("<s>", "</s>", "<unk>"), n=500, fallback=True, drop=()):
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=fallback))
    t.normalizer = normalizers.Replace(" ", "▁")
    extra = ["<0x%02X>" % b for b in range(256) if b not in drop] if fallback else []
    t.train_from_iterator(TRAIN[:5], trainers.BpeTrainer(vocab_size=n + len(extra), special_tokens=list(specials) + extra, show_progress=False))
    j = json.loads(t.to_str())
    j["added_tokens"] = [a for a in j["added_tokens"] if a["content"] not in extra]
    t = Tokenizer.from_str(json.dumps(j))
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return t


def suffix_bpe(prefix="", suffix="</w>", n=400):
    kw = {k: v for k, v in {"continuing_subword_prefix": prefix, "end_of_word_suffix": suffix}.items() if v}
    t = Tokenizer(models.BPE(unk_token="<unk>", **kw))
    t.pre_tokenizer = pre_tokenizers.Whitespace()
    t.decoder = decoders.BPEDecoder(suffix) if suffix else decoders.WordPiece(prefix)
    t.train_from_iterator(TRAIN, trainers.BpeTrainer(vocab_size=n, special_tokens=["<s>", "</s>", "<unk>"], show_progress=False, **kw))
    return t


def unigram(specials=("<s>", "<pad>", "</s>", "<unk>"), n=400, pre=None, norm=None, fallback=False):
    t = Tokenizer(models.Unigram())
    t.normalizer = norm
    t.pre_tokenizer = pre or pre_tokenizers.Metaspace()
    t.decoder = decoders.Metaspace()
    t.train_from_iterator(TRAIN, trainers.UnigramTrainer(vocab_size=n, special_tokens=list(specials), unk_token="<unk>" if "<unk>" in specials else specials[0], show_progress=False))
    if fallback:
        j = json.loads(t.to_str())
        j["model"]["vocab"] += [["<0x%02X>" % b, -30.0] for b in range(256)]
        j["model"]["byte_fallback"] = True
        t = Tokenizer.from_str(json.dumps(j))
        t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return t


def wordpiece(specials=("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), n=400, unk="[UNK]", lower=True):
    t = Tokenizer(models.WordPiece(unk_token=unk))
    t.normalizer = normalizers.BertNormalizer(lowercase=lower)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    t.train_from_iterator(TRAIN, trainers.WordPieceTrainer(vocab_size=n, special_tokens=list(specials), show_progress=False))
    return t


def wordlevel(pre=None):
    t = Tokenizer(models.WordLevel(unk_token="<unk>"))
    t.pre_tokenizer = pre or pre_tokenizers.Whitespace()
    t.train_from_iterator(TRAIN, trainers.WordLevelTrainer(vocab_size=200, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False))
    return t


def charsmap(name="nmt_nfkc"):
    import io, sentencepiece as spm
    b = io.BytesIO()
    spm.SentencePieceTrainer.train(sentence_iterator=iter(TRAIN), model_writer=b, vocab_size=330, model_type="unigram", normalization_rule_name=name, hard_vocab_limit=False, minloglevel=2)
    from sentencepiece import sentencepiece_model_pb2 as pb
    m = pb.ModelProto(); m.ParseFromString(b.getvalue())
    return m.normalizer_spec.precompiled_charsmap


def template(t, single, *names):
    t.post_processor = processors.TemplateProcessing(single=single, special_tokens=[(x, t.token_to_id(x)) for x in names])
    return t


made, failed = 0, []


def write(name, tok, config=None, family="llama", more=None, n=30):
    """Writes a folder and its cases."""
    global made
    d = os.path.join(OUT, name)
    shutil.rmtree(d, ignore_errors=True); os.makedirs(d)
    if isinstance(tok, Tokenizer):
        tok = tok.to_str()
    if tok is not None:
        open(os.path.join(d, "tokenizer.json"), "w", encoding="utf-8").write(tok)
    c = {"tokenizer_class": "PreTrainedTokenizerFast"}
    c.update(config or {})
    c = {k: v for k, v in c.items() if v is not ...}
    json.dump(c, open(os.path.join(d, "tokenizer_config.json"), "w"))
    if family:
        json.dump({"model_type": family}, open(os.path.join(d, "config.json"), "w"))
    for f, data in (more or {}).items():
        open(os.path.join(d, f), "wb").write(data if isinstance(data, bytes) else data.encode())
    try:
        t = AutoTokenizer.from_pretrained(d)
    except Exception as e:
        failed.append((name, type(e).__name__, str(e)[:100])); shutil.rmtree(d); return
    with open(os.path.join(d, "cases.jsonl"), "w", encoding="utf-8") as f:
        for i, s in enumerate(texts(n)):
            add, parse = i % 3 != 1, i % 4 != 2
            try:
                ids = t(s, add_special_tokens=add, split_special_tokens=not parse)["input_ids"]
                case = {"text": s, "add_special": add, "parse_special": parse, "ids": ids, "decoded": t.decode(ids), "decoded_without_special": t.decode(ids, skip_special_tokens=True)}
            except BaseException as e:
                continue
            f.write(json.dumps(case) + "\n")
    json.dump({"class": type(t).__name__}, open(os.path.join(d, "kind.json"), "w"))
    made += 1


def main():
    os.makedirs(OUT, exist_ok=True)
    B, C, U, W = byte_bpe(), char_bpe(), unigram(), wordpiece()
    cmap = normalizers.Precompiled(charsmap()); cmap_cf = normalizers.Precompiled(charsmap("nmt_nfkc_cf")); nfkc = normalizers.Precompiled(charsmap("nfkc"))

    def variant(t, **parts):
        t = Tokenizer.from_str(t.to_str())
        for k, v in parts.items():
            setattr(t, k, v)
        return t

    # Normalizers, before byte-level BPE, so that each byte shows.
    N = normalizers
    norms = {
        "nfc": N.NFC(), "nfd": N.NFD(), "nfkc": N.NFKC(), "nfkd": N.NFKD(), "lower": N.Lowercase(), "strip": N.Strip(), "strip-left": N.Strip(True, False), "strip-right": N.Strip(False, True),
        "accents": N.StripAccents(), "nfd-accents": N.Sequence([N.NFD(), N.StripAccents()]), "prepend": N.Prepend("▁"), "replace": N.Replace("o", "00"), "replace-regex": N.Replace(Regex(r"\s+"), " "),
        "replace-class": N.Replace(Regex(r"[[:punct:]&&[^.]]+"), "<p>"), "replace-empty": N.Replace(Regex(r"x*"), "-"), "bert": N.BertNormalizer(), "bert-cased": N.BertNormalizer(lowercase=False), "bert-accents": N.BertNormalizer(strip_accents=True, lowercase=False),
        "bert-plain": N.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=True), "nmt": N.Nmt(), "precompiled": cmap, "precompiled-cf": cmap_cf, "precompiled-nfkc": nfkc,
        "sequence": N.Sequence([N.Nmt(), N.NFKC(), N.Lowercase(), N.Strip(), N.Replace(" ", "▁"), N.Prepend("x")]), "bytelevel": N.ByteLevel(),
    }
    for k, v in norms.items():
        write("norm-" + k, variant(B, normalizer=v))
        write("norm-uni-" + k, variant(U, normalizer=v), n=10)
    # Pre-tokenizers.
    P = pre_tokenizers
    bl = P.ByteLevel(add_prefix_space=False, use_regex=False)
    behaviours = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]
    pres = {
        "bytelevel": P.ByteLevel(), "bytelevel-whole": P.ByteLevel(add_prefix_space=True, use_regex=False), "whitespace": P.Whitespace(), "whitespace-split": P.WhitespaceSplit(), "bert": P.BertPreTokenizer(), "digits": P.Digits(False), "digits-each": P.Digits(True),
        "scripts": P.UnicodeScripts(), "fixed": P.FixedLength(5), "fixed1": P.FixedLength(1), "delimiter": P.CharDelimiterSplit("a"), "metaspace": P.Metaspace(), "metaspace-first": P.Metaspace(prepend_scheme="first"),
        "metaspace-never": P.Metaspace(prepend_scheme="never"), "metaspace-whole": P.Metaspace(split=False), "metaspace-other": P.Metaspace(replacement="_", prepend_scheme="first", split=False),
        "seq-first": P.Sequence([P.WhitespaceSplit(), P.Metaspace(prepend_scheme="first")]), "seq-first2": P.Sequence([P.Punctuation(), P.Metaspace(prepend_scheme="first")]),
        "seq-scripts": P.Sequence([P.UnicodeScripts(), P.Digits(True)]), "seq-punct": P.Sequence([P.Whitespace(), P.Punctuation("merged_with_next"), P.FixedLength(3)]),
    }
    for b in behaviours:
        pres["punct-" + b] = P.Punctuation(b)
        for inv in (False, True):
            i = "-inv" if inv else ""
            pres[f"split-{b}{i}"] = P.Split(Regex(r"\p{P}|\d+"), b, inv)
            pres[f"text-{b}{i}"] = P.Split("o", b, inv)
    patterns = [
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+", r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s", r"\w+|[^\w\s]+", r"[[:alpha:]]+|[[:digit:]]|[[:punct:]]", r"(?<=[a-z])(?=[A-Z])|\s+", r"(\w)\1", r"[a-c[x-z]]+|[\p{L}&&[^a-m]]+",
        r"\b", r"^|$", r"\h+|\H", r"\R", r"(?m:a.b)", r"\p{Han}+|\p{Latin}+", r"[\u4e00-\u9fff]+|\x41", r"\d{1,3}(?=(?:\d{3})*\b)", r"(?<x>l)\k<x>", r"[^\S\n]+", r"\p{^L}+", r"\P{Lu}+", r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+", r"\p{Alpha}+|\p{Punct}", r"[\w\-']+", r"a{,2}", r"(?:ab|a)?+b", r"\S+\s*",
        "[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+", r"\p{Script=Greek}+|\p{IsCyrillic}+", r".+", r"[^a]+", r"\A.|.\z",
    ]
    for i, p in enumerate(patterns):
        try:
            pres[f"pattern{i}"] = P.Split(Regex(p), "isolated")
        except BaseException as e:
            failed.append((f"pattern{i}", p, str(e)[:80]))
    for k, v in pres.items():
        seq = v if "bytelevel" in k else P.Sequence([v, bl])
        write("pre-" + k, variant(B, pre_tokenizer=seq))
    for k in ["whitespace", "whitespace-split", "bert", "scripts", "fixed", "delimiter", "metaspace", "metaspace-first", "metaspace-never", "metaspace-whole", "seq-first", "punct-isolated", "split-contiguous-inv"]:
        write("prechar-" + k, variant(C, pre_tokenizer=pres[k], normalizer=None), n=10)
        write("preuni-" + k, variant(U, pre_tokenizer=pres[k]), n=10)
    # Decoders.
    D = decoders
    for k, v in {
        "none": None, "bytelevel": D.ByteLevel(), "fallback": D.ByteFallback(), "fuse": D.Sequence([D.ByteFallback(), D.Fuse()]), "metaspace": D.Metaspace(), "metaspace-never": D.Metaspace(prepend_scheme="never"), "replace-regex": D.Sequence([D.Replace(Regex("[▁o]+"), "_"), D.Fuse()]), "ctc": D.CTC(pad_token="l", word_delimiter_token="▁"),
        "ctc-plain": D.CTC(pad_token="o", word_delimiter_token="e", cleanup=False), "wordpiece": D.WordPiece(cleanup=True), "wordpiece-plain": D.WordPiece(prefix="e", cleanup=False), "bpe": D.BPEDecoder(suffix="e"), "strip": D.Sequence([D.Fuse(), D.Strip("▁", 2, 1)]),
    }.items():
        write("dec-" + k, variant(C, decoder=v))
    write("dec-cleanup", variant(C), {"clean_up_tokenization_spaces": True})
    write("dec-cleanup-forced", variant(C), {"clean_up_tokenization_spaces": True, "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output": True})
    write("dec-cleanup-uni", variant(U), {"clean_up_tokenization_spaces": True})
    # Models.
    write("bpe-suffix", suffix_bpe()); write("bpe-prefix", suffix_bpe("##", "")); write("bpe-both", suffix_bpe("@@", "</w>"))
    for fuse in (False, True):
        for fallback in (False, True):
            t = char_bpe(fallback=fallback, drop=range(0xD0, 0xE4) if fallback else ())
            j = json.loads(t.to_str()); j["model"]["fuse_unk"] = fuse
            write(f"bpe-unk-{fuse}-{fallback}", json.dumps(j))
            j["model"]["unk_token"] = None
            write(f"bpe-nounk-{fuse}-{fallback}", json.dumps(j))
            j["model"]["ignore_merges"] = True
            write(f"bpe-ignore-{fuse}-{fallback}", json.dumps(j))
    write("unigram", U); write("unigram-fallback", unigram(fallback=True)); write("unigram-whole", unigram(pre=P.Metaspace(split=False))); write("unigram-charsmap", unigram(norm=cmap, pre=P.Sequence([P.WhitespaceSplit(), P.Metaspace()])))
    write("unigram-nopre", variant(U, pre_tokenizer=None))
    write("wordlevel", wordlevel()); write("wordlevel-split", wordlevel(P.WhitespaceSplit())); write("wordlevel-bert", wordlevel(P.BertPreTokenizer()))
    for lower in (True, False):
        write(f"wordpiece-{lower}", wordpiece(lower=lower))
    j = json.loads(W.to_str()); j["model"]["max_input_chars_per_word"] = 4; write("wordpiece-4", json.dumps(j))
    j["model"]["continuing_subword_prefix"] = ""; write("wordpiece-noprefix", json.dumps(j))
    # Added tokens.
    for i in range(24):
        t = variant(rnd.choice([B, C, U, W]))
        if rnd.random() < 0.6:
            t.normalizer = rnd.choice([N.Lowercase(), N.NFKC(), N.Replace("a", "b"), N.Replace(" ", "▁")])  # none that empties a token
        for _ in range(rnd.randint(1, 5)):
            a = AddedToken(rnd.choice(["<mask>", "lazy", "dog", " dog", "<X>", "l", "zy d", "Hello", "\n", "  ", "a", "<s>", "ab", "▁a", "é", "HELLO"]), single_word=rnd.random() < 0.3, lstrip=rnd.random() < 0.3, rstrip=rnd.random() < 0.3, normalized=rnd.random() < 0.5)
            (t.add_special_tokens if rnd.random() < 0.4 else t.add_tokens)([a])
        conf = {}
        if rnd.random() < 0.5:
            conf["added_tokens_decoder"] = {str(900 + k): {"content": x, "lstrip": rnd.random() < 0.5, "rstrip": False, "single_word": False, "normalized": rnd.random() < 0.5, "special": rnd.random() < 0.5} for k, x in enumerate(["<new>", "lazy", "Hello"])}
        if rnd.random() < 0.5:
            conf["eos_token"] = rnd.choice(["</s>", "dog", "<eos-new>"]); conf["extra_special_tokens"] = ["quick", "<extra>"]
        write(f"added-{i}", t, conf)
    # Post-processors.
    write("post-template", template(variant(B), "<s> $A </s> </s>", "<s>", "</s>")); write("post-after", template(variant(B), "$A </s>", "</s>"))
    write("post-bert", variant(B, post_processor=processors.BertProcessing(("</s>", 1), ("<s>", 0)))); write("post-roberta", variant(B, post_processor=processors.RobertaProcessing(("</s>", 1), ("<s>", 0))))
    write("post-seq", variant(B, post_processor=processors.Sequence([processors.ByteLevel(), template(variant(B), "<s> $A", "<s>").post_processor])))
    # Classes: each over a file of its own model, with the configuration varied.
    def special(kind):
        return {"BPE": byte_bpe(COMMON, 600), "chars": char_bpe(["<pad>", "<eos>", "<bos>"] + COMMON, 500), "Unigram": unigram(["<s>", "<pad>", "</s>", "<unk>"] + COMMON[4:], 500), "WordPiece": wordpiece(COMMON, 500)}[kind]
    byteclasses = "GPT2Tokenizer GPTNeoXTokenizer CohereTokenizer Qwen2Tokenizer Qwen3_5Tokenizer RobertaTokenizer BartTokenizer LEDTokenizer MvpTokenizer BlenderbotTokenizer CodeGenTokenizer WhisperTokenizer DebertaTokenizer LayoutLMv3Tokenizer LukeTokenizer CLIPTokenizer NougatTokenizer".split()
    charclasses = "LlamaTokenizer CodeLlamaTokenizer GemmaTokenizer Siglip2Tokenizer NllbTokenizer ReformerTokenizer Tipsv2Tokenizer".split()
    uniclasses = "T5Tokenizer XLMRobertaTokenizer AlbertTokenizer CamembertTokenizer DebertaV2Tokenizer MBartTokenizer MBart50Tokenizer PegasusTokenizer BarthezTokenizer BigBirdTokenizer LasrTokenizer LayoutXLMTokenizer MLukeTokenizer RemBertTokenizer UdopTokenizer VideoPrismTokenizer XGLMTokenizer XLNetTokenizer FNetTokenizer".split()
    wpclasses = "BertTokenizer DistilBertTokenizer MobileBertTokenizer FunnelTokenizer MPNetTokenizer SplinterTokenizer LayoutLMv2Tokenizer ConvBertTokenizer DPRReaderTokenizer LxmertTokenizer".split()
    for kind, classes in {"BPE": byteclasses, "chars": charclasses, "Unigram": uniclasses, "WordPiece": wpclasses}.items():
        t = special(kind)
        for cl in classes:
            write(f"class-{cl}", t, {"tokenizer_class": cl}, n=15)
            v = variant(t)
            v.post_processor = processors.TemplateProcessing(single="<mask> $A <pad>", special_tokens=[(x, t.token_to_id(x)) for x in ["<mask>", "<pad>"]])
            if kind == "Unigram":
                v.normalizer = N.Sequence([rnd.choice([cmap, cmap_cf]), N.Replace(Regex(" {2,}"), " ")])
            conf = {"tokenizer_class": cl + rnd.choice(["", "Fast"]), "add_prefix_space": rnd.random() < 0.5, "add_bos_token": True, "add_eos_token": True, "do_lower_case": rnd.random() < 0.5, "keep_accents": rnd.random() < 0.5, "legacy": rnd.random() < 0.5, "strip_accents": rnd.choice([None, True, False]), "split_by_punct": True, "tokenize_chinese_chars": rnd.random() < 0.5, "mask_token": rnd.choice(["<mask>", None, {"__type": "AddedToken", "content": "<mask>", "lstrip": True, "rstrip": False, "single_word": False, "normalized": True}])}
            write(f"class-{cl}-config", v, conf, n=15)
    # Which class: families, names, files.
    for fam in "llama mistral qwen2 qwen3 qwen2_moe qwen3_next qwen3_5 qwen3_5_moe gpt2 gemma gemma3_text gemma4 phi phi3 granite smollm3 gpt_oss lfm2 olmo olmo2 olmoe exaone4 ernie4_5 glm4 deepseek_v3 cohere2 nemotron falcon falcon_mamba mamba2 stablelm starcoder2 gpt_neox gptj opt bloom bert roberta modernbert xlm-roberta t5 mt5 nomic_bert distilbert electra mpnet minicpm3 internlm2 jamba phimoe arctic apertus mpt hunyuan_v1_dense none-such".split():
        for cl in rnd.sample(["LlamaTokenizerFast", "PreTrainedTokenizerFast", "GPT2TokenizerFast", "Qwen2Tokenizer", "GPTNeoXTokenizerFast", "TokenizersBackend", ...], 3):
            f = variant(rnd.choice([special_b, special_c]))
            f.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", f.token_to_id("<s>"))])
            if f.to_str().find('"ByteLevel"') >= 0 and rnd.random() < 0.5:
                f.pre_tokenizer = P.Sequence([P.Split(Regex(patterns[0]), "isolated"), bl])
            write(f"pick-{fam}-{'none' if cl is ... else cl}", f, {"tokenizer_class": cl, "bos_token": "<s>", "eos_token": "</s>"}, family=fam, n=6)
    # Random mixtures.
    for i in range(60):
        base = rnd.choice([B, C, U, W])
        norm = [v for v in norms.values()]; pre = list(pres.values())
        t = variant(base, normalizer=rnd.choice([None, rnd.choice(norm), N.Sequence([rnd.choice(norm), rnd.choice(norm)])]))
        seq = [rnd.choice(pre) for _ in range(rnd.randint(0, 3))]
        if base is B:
            seq = [p for p in seq if "ByteLevel" not in str(p.__getstate__())] + [bl]
        t.pre_tokenizer = P.Sequence(seq)
        write(f"mix-{i}", t, n=20)


def spm(kind="unigram", rule="nmt_nfkc", **kw):
    import io, sentencepiece as sp
    b = io.BytesIO()
    sp.SentencePieceTrainer.train(sentence_iterator=iter(TRAIN * 3), model_writer=b, vocab_size=kw.pop("vocab_size", 360), model_type=kind, normalization_rule_name=rule, hard_vocab_limit=False, minloglevel=2, **kw)
    return b.getvalue()


def files():
    """Folders without a tokenizer.json."""
    bpe = spm("bpe", "identity", byte_fallback=True, vocab_size=600, remove_extra_whitespaces=False, user_defined_symbols=["<X>", "lazy"])
    bpe2 = spm("bpe", "nmt_nfkc", vocab_size=400)
    uni, uni_fb = spm(), spm("unigram", "identity", byte_fallback=True, vocab_size=600)
    uni_t5 = spm(pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    for name, data in {"bpe": bpe, "bpe2": bpe2, "uni": uni, "uni-fb": uni_fb, "uni-user": spm(user_defined_symbols=["<X>", "dog"])}.items():
        for legacy in (None, True, False):
            write(f"file-spm-{name}-{legacy}", None, {"tokenizer_class": "PreTrainedTokenizerFast", "legacy": legacy} if legacy is not None else {}, family="mistral", more={"tokenizer.model": data}, n=20)
    for legacy in (True, False):
        for bos in (True, False):
            write(f"file-llama-{legacy}-{bos}", None, {"tokenizer_class": "LlamaTokenizer", "legacy": legacy, "add_bos_token": bos, "add_eos_token": not bos}, more={"tokenizer.model": bpe}, n=15)
    write("file-gemma", None, {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}, family="gemma2", more={"tokenizer.model": bpe})
    write("file-t5", None, {"tokenizer_class": "T5Tokenizer"}, family="t5", more={"spiece.model": uni_t5})
    write("file-t5-10", None, {"tokenizer_class": "T5Tokenizer", "extra_ids": 10}, family="t5", more={"spiece.model": uni_t5})
    write("file-xlmr", None, {"tokenizer_class": "XLMRobertaTokenizer"}, family="xlm-roberta", more={"sentencepiece.bpe.model": uni})
    write("file-camembert", None, {"tokenizer_class": "CamembertTokenizer"}, family="camembert", more={"sentencepiece.bpe.model": uni})
    write("file-albert", None, {"tokenizer_class": "AlbertTokenizer", "unk_token": "<unk>"}, family="albert", more={"spiece.model": spm(user_defined_symbols=["[CLS]", "[SEP]", "[MASK]"])})
    write("file-nllb", None, {"tokenizer_class": "NllbTokenizer"}, family="nllb", more={"sentencepiece.bpe.model": spm("bpe", user_defined_symbols=["eng_Latn"])})
    import base64
    rs = json.loads(byte_bpe([], 600).to_str())["model"]["vocab"]
    dec = {c: b for b, c in bytes_chars().items()}
    tik = "".join(base64.b64encode(bytes(dec[c] for c in t)).decode() + f" {i}\n" for t, i in sorted(rs.items(), key=lambda x: x[1]))
    write("file-tiktoken", None, {}, family="mistral", more={"tiktoken.model": tik})
    write("file-tiktoken-named", None, {"added_tokens_decoder": {"603": {"content": "<|end|>", "special": True, "normalized": False, "lstrip": False, "rstrip": False, "single_word": False}}, "eos_token": "<|end|>"}, family="mistral", more={"tokenizer.model": tik})
    t = json.loads(byte_bpe(COMMON, 600).to_str())["model"]
    more = {"vocab.json": json.dumps(t["vocab"]), "merges.txt": "#version: 0.2\n" + "\n".join(" ".join(m) for m in t["merges"]) + "\n"}
    for cl, fam in {"GPT2Tokenizer": "gpt2", "RobertaTokenizer": "roberta", "Qwen2Tokenizer": "qwen2", "BartTokenizer": "bart"}.items():
        write("file-merges-" + cl, None, {"tokenizer_class": cl}, family=fam, more=more, n=15)
        write("file-merges-none-" + cl, None, {"tokenizer_class": ..., "add_prefix_space": True}, family=fam, more=more, n=15)
    w = json.loads(wordpiece().to_str())["model"]["vocab"]
    more = {"vocab.txt": "\n".join(t for t, _ in sorted(w.items(), key=lambda x: x[1])) + "\n"}
    for cl, fam in {"BertTokenizer": "bert", "DistilBertTokenizer": "distilbert", "ElectraTokenizer": "electra"}.items():
        write("file-words-" + cl, None, {"tokenizer_class": cl, "do_lower_case": cl != "BertTokenizer"}, family=fam, more=more, n=15)
    # Marian: two models, one vocabulary or two.
    import sentencepiece as sp
    for sep in (False, True):
        src, tgt = spm(), spm(vocab_size=300)
        vocab = {"</s>": 0, "<unk>": 1, ">>deu<<": 2}
        for d in (src, tgt):
            p = sp.SentencePieceProcessor(); p.LoadFromSerializedProto(d)
            for i in range(p.get_piece_size()):
                vocab.setdefault(p.id_to_piece(i), len(vocab))
        vocab["<pad>"] = len(vocab)
        more = {"source.spm": src, "target.spm": tgt, "vocab.json": json.dumps(vocab)}
        if sep:
            more["target_vocab.json"] = json.dumps({k: i for i, k in enumerate(reversed(list(vocab)))})
        write(f"file-marian-{sep}", None, {"tokenizer_class": "MarianTokenizer", "separate_vocabs": sep}, family="marian", more=more)
    # Old files that the class reads, tokens in added_tokens.json.


def bytes_chars():
    from transformers.convert_slow_tokenizer import bytes_to_unicode
    return bytes_to_unicode()


special_b, special_c = byte_bpe(COMMON, 600), char_bpe(["<pad>", "<eos>", "<bos>"] + COMMON, 500)
main() if len(sys.argv) < 4 else None
files()
print(made, "kinds;", len(failed), "not made:")
for f in failed:
    print("  ", *f)
