"""Writes a tiny encoder-decoder of each way in which models are told languages, with what transformers makes of texts and languages.

    python tools/oracle/translate.py test/e2e/testdata/translate [NAME…]

Weights are random, and every value is exact in BF16. The numbers in translate.json are transformers' own: ids by the tokenizer class's
_build_translation_inputs where it has one, answers by generate().
"""
import json, pathlib, random, shutil, sys

import torch
import transformers as t

TEXTS = ["The window in the kitchen is still open.", "Der Heizkessel im Keller ist warm, 24 Grad."]
BASE = """The boiler in the cellar is warm.
Is the window in the kitchen still open?
Der Heizkessel im Keller ist warm.
Ist das Fenster in der Küche noch offen?
La fenêtre de la cuisine est encore ouverte.
La chaudière de la cave est chaude, 24 degrés.
The lamp in the hall is off. Nobody was in the garden.
Die Lampe im Flur ist aus. Niemand war im Garten.""".splitlines()


def spm(path, vocab, kind="unigram", lines=None, **more):
    import io
    import sentencepiece as sp
    g, out = random.Random(3), io.BytesIO()
    lines = lines or [" ".join(g.sample(w, len(w))) for line in BASE * 40 for w in [line.split()]]
    sp.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=out, model_type=kind, vocab_size=vocab, hard_vocab_limit=False,
                                  normalization_rule_name="identity", num_threads=1, minloglevel=2, **more)
    pathlib.Path(path).write_bytes(out.getvalue())


def nllb(d):
    spm(d / "sentencepiece.bpe.model", 160, "bpe")
    tok = t.NllbTokenizer.from_pretrained(d, extra_special_tokens=["eng_Latn", "deu_Latn", "fra_Latn"], src_lang="eng_Latn", tgt_lang="deu_Latn")
    tok.src_lang = "eng_Latn"
    return tok, "M2M100", [("eng_Latn", "deu_Latn"), ("deu_Latn", "fra_Latn")]


def mbart(d):
    spm(d / "sentencepiece.bpe.model", 160)
    return t.MBartTokenizer.from_pretrained(d, src_lang="en_XX", tgt_lang="de_DE"), "MBart", [("en_XX", "de_DE"), ("de_DE", "fr_XX")]


def m2m100(d):
    import sentencepiece as sp
    spm(d / "sentencepiece.bpe.model", 160)
    m = sp.SentencePieceProcessor(model_file=str(d / "sentencepiece.bpe.model"))
    vocab = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    for i in range(m.vocab_size()):
        vocab.setdefault(m.id_to_piece(i), len(vocab))
    (d / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    return t.M2M100Tokenizer(str(d / "vocab.json"), str(d / "sentencepiece.bpe.model"), src_lang="en", tgt_lang="de"), "M2M100", [("en", "de"), ("de", "fr")]


def marian(d):
    import sentencepiece as sp
    vocab = {"</s>": 0, "<unk>": 1, ">>deu<<": 2, ">>fra<<": 3}
    for name in ("source.spm", "target.spm"):
        spm(d / name, 140, pad_id=-1, bos_id=0, eos_id=2, unk_id=1)
        m = sp.SentencePieceProcessor(model_file=str(d / name))
        for i in range(m.vocab_size()):
            vocab.setdefault(m.id_to_piece(i), len(vocab))
    vocab["<pad>"] = len(vocab)
    (d / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    tok = t.MarianTokenizer(source_spm=str(d / "source.spm"), target_spm=str(d / "target.spm"), vocab=str(d / "vocab.json"), source_lang="eng", target_lang="mul")
    return tok, "Marian", [("", "deu"), ("", "fra")]


def madlad(d):
    spm(d / "spiece.model", 160, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, user_defined_symbols=["<2de>", "<2fr>", "<2en>"])
    return t.T5Tokenizer.from_pretrained(d, extra_ids=0), "T5", [("", "de"), ("", "fr")]


def t5(d):
    spm(d / "spiece.model", 160, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    return t.T5Tokenizer.from_pretrained(d, extra_ids=10), "T5", [("en", "de"), ("German", "French")]


WORDS = {"en": "English", "de": "German", "fr": "French"}
MARKS = {"marian": lambda s, g, x: f">>{g}<< {x}", "madlad": lambda s, g, x: f"<2{g}> {x}",
         "t5": lambda s, g, x: f"translate {WORDS.get(s, s)} to {WORDS.get(g, g)}: {x}"}


def ended(ids, tok):
    """Without the padding behind the end."""
    return ids[:ids.index(tok.eos_token_id) + 1] if tok.eos_token_id in ids else ids


def model(kind, tok):
    size = dict(d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=96)
    ids = dict(pad_token_id=tok.pad_token_id, eos_token_id=tok.eos_token_id)
    if kind == "T5":
        c = t.T5Config(vocab_size=len(tok), d_model=32, d_kv=16, d_ff=48, num_layers=1, num_decoder_layers=1, num_heads=2, decoder_start_token_id=0, **ids)
        m = t.T5ForConditionalGeneration(c)
    elif kind == "Marian":
        c = t.MarianConfig(vocab_size=len(tok), decoder_start_token_id=tok.pad_token_id, forced_eos_token_id=None, bos_token_id=None, scale_embedding=True, activation_function="swish", **size, **ids)
        m = t.MarianMTModel(c)
    else:
        n = max(len(tok), max(tok.get_vocab().values()) + 1, getattr(tok, "encoder_size", 0) + 100 if hasattr(tok, "lang_token_to_id") else 0)
        more = {} if kind == "MBart" else dict(encoder_layerdrop=0.0, decoder_layerdrop=0.0)
        c = getattr(t, kind + "Config")(vocab_size=n, bos_token_id=0, decoder_start_token_id=2, forced_eos_token_id=None, scale_embedding=True, **more, **size, **ids)
        m = getattr(t, kind + "ForConditionalGeneration")(c)
    g = torch.Generator().manual_seed(len(tok))
    with torch.no_grad():
        for name, p in m.named_parameters():
            if p.dim() > 1 and "embed_positions" not in name:
                p.copy_((torch.randn(p.shape, generator=g) * ((1.0 if kind in ("T5", "Marian") else 0.2) if p.shape[0] >= len(tok) else 0.5)).to(torch.bfloat16).float())
        head = m.get_output_embeddings().weight
        head[tok.eos_token_id] = (head[tok.eos_token_id] * 1.5).to(torch.bfloat16).float()
    return m.eval()


def write(name, out):
    d = out / name
    shutil.rmtree(d, ignore_errors=True)
    d.mkdir(parents=True)
    torch.set_num_threads(1)
    tok, kind, pairs = globals()[name](d)
    tok.save_pretrained(d)
    if name == "m2m100":  # as published folders have it
        (d / "special_tokens_map.json").write_text(json.dumps({"additional_special_tokens": [f"__{x}__" for x in tok.lang_code_to_id]}))
        c = json.loads((d / "tokenizer_config.json").read_text())
        (d / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in c.items() if k in ("tokenizer_class", "src_lang", "tgt_lang", "language_codes", "num_madeup_words")}, indent=1) + "\n")
        tok = type(tok).from_pretrained(d)
    m = model(kind, tok)
    m.generation_config = t.GenerationConfig(decoder_start_token_id=m.config.decoder_start_token_id, eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id, max_length=14, num_beams=3)
    m.to(torch.bfloat16).save_pretrained(d)
    m = type(m).from_pretrained(d, dtype=torch.float32).eval()
    with torch.no_grad():  # sinusoids are a constant, and no weights that were rounded
        for x in (m.get_encoder(), m.get_decoder()):
            at = getattr(x, "embed_positions", None)
            if hasattr(at, "create_weight"):
                at.weight.copy_(at.create_weight())
            elif hasattr(at, "make_weights"):
                at.make_weights(at.weights.shape[0], at.embedding_dim, at.padding_idx)
    cases = []
    for source, target in pairs:
        for text in TEXTS:
            first = []
            if name in MARKS:
                x = dict(tok(MARKS[name](source, target, text), return_tensors="pt"))
            else:
                more = {} if name == "m2m100" else {"return_tensors": "pt"}
                x = dict(tok._build_translation_inputs(text, src_lang=source, tgt_lang=target, **more))
                first = [int(x.pop("forced_bos_token_id"))]
                x = {k: torch.tensor([v]) if not torch.is_tensor(v) else v for k, v in x.items()}
            x = {k: v for k, v in x.items() if k in ("input_ids", "attention_mask")}
            forced = {"forced_bos_token_id": first[0]} if first else {}
            o = m.generate(**x, **forced, return_dict_in_generate=True, output_scores=True)
            greedy = m.generate(**x, **forced, num_beams=1)
            cases.append({"text": text, "source": source, "target": target, "ids": x["input_ids"][0].tolist(), "first": first, "beams": ended(o.sequences[0].tolist()[1:], tok),
                          "score": round(float(o.sequences_scores[0]), 6), "greedy": ended(greedy[0].tolist()[1:], tok), "translation": tok.decode(o.sequences[0], skip_special_tokens=True)})
    (d / "translate.json").write_text(json.dumps({"producer": f"transformers {t.__version__}, torch {torch.__version__}, float32: tools/oracle/translate.py", "cases": cases}, ensure_ascii=False, indent=1) + "\n")
    if (d / "tokenizer.json").exists():
        for f in ("spiece.model", "sentencepiece.bpe.model"):
            (d / f).unlink(missing_ok=True)
    print(name, sum(f.stat().st_size for f in d.iterdir()), {c["translation"] for c in cases}, cases[0]["ids"], cases[0]["first"], cases[0]["beams"])


if __name__ == "__main__":
    for name in sys.argv[2:] or ["nllb", "mbart", "m2m100", "marian", "madlad", "t5"]:
        write(name, pathlib.Path(sys.argv[1]))
