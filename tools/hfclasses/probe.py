"""Asks Hugging Face's tokenizers library which characters its sets have, and writes the answers as JSON.

    python -m venv v && v/bin/pip install tokenizers==0.23.3
    v/bin/python tools/hfclasses/probe.py > sets.json && go run ./tools/hfclasses sets.json > plugins/tokenizer-bpe/bpe/split/hf_data.go
"""
import json, sys
from tokenizers import Regex, normalizers as nm, pre_tokenizers as pt

chars = [chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
text = "".join(chars)


def ranges(codes):
    out = []
    for c in codes:
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def members(pre):
    return sorted({ord(c) for w, _ in pre.pre_tokenize_str(text) for c in w})


res = {}
for name, p in {"L": r"\p{L}", "Lu": r"\p{Lu}", "Ll": r"\p{Ll}", "Lm": r"\p{Lm}", "Lo": r"\p{Lo}", "N": r"\p{N}", "Nd": r"\p{Nd}", "M": r"\p{M}", "P": r"\p{P}", "S": r"\p{S}", "word": r"\w", "alpha": "[[:alpha:]]"}.items():
    res[name] = ranges(members(pt.Split(Regex(p), "removed", invert=True)))
kept = set(members(pt.Punctuation("removed")))
res["bert punctuation"] = ranges([ord(c) for c in chars if ord(c) not in kept])
word, number = [], []
for i in range(0, len(chars), 2048):
    block = chars[i:i + 2048]
    for w, (a, b) in pt.Whitespace().pre_tokenize_str("".join("a" + c + " " for c in block)):
        if b - a == 2 and a % 3 == 0:
            word.append(ord(block[a // 3]))
    for w, (a, b) in pt.Digits(True).pre_tokenize_str("".join("a" + c for c in block)):
        if b - a == 1 and a % 2 == 1:
            number.append(ord(block[a // 2]))
res["rust word"], res["rust number"] = ranges(word), ranges(number)
for name, n in {"accents": nm.StripAccents(), "bert accents": nm.BertNormalizer(False, False, True, False), "bert control": nm.BertNormalizer(True, False, False, False)}.items():
    res[name] = ranges([ord(c) for c in chars if n.normalize_str(c) == ""])
scripts = pt.UnicodeScripts()
res["no script"] = ranges([ord(c) for c in chars if not scripts.pre_tokenize_str(c)])
json.dump(res, sys.stdout)
