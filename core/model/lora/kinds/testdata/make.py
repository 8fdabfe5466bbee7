"""Writes peft.json: small adapters of PEFT's kinds, and the matrices and biases that PEFT makes of them.

Use: python make.py > peft.json, with peft 0.21.2 and torch 2.15.0.
"""
import json
import sys
import warnings

import torch
from torch import nn
import peft
from peft import get_peft_model, get_peft_model_state_dict

warnings.filterwarnings("ignore")


def base():
    """Two layers of one block: one with a bias, one without."""
    torch.manual_seed(7)
    model, layer, attn, mlp = nn.Module(), nn.Module(), nn.Module(), nn.Module()
    attn.q_proj = nn.Linear(12, 8, bias=True)
    mlp.down_proj = nn.Linear(8, 12, bias=False)
    layer.self_attn, layer.mlp = attn, mlp
    model.model = nn.Module()
    model.model.layers = nn.ModuleList([layer])
    model.forward = lambda x: x
    model.config = {"model_type": "custom"}
    return model


NAMES = ["model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj"]


def listed(t):
    return [float(f"{v:.9g}") if isinstance(v, float) else v for v in t.flatten().tolist()]


def case(config, seed=3):
    torch.manual_seed(seed)
    plain = base()
    m = get_peft_model(base(), config)
    g = torch.Generator().manual_seed(seed)
    for p in m.parameters():
        if p.requires_grad:
            p.data = p.data + 0.3 * torch.randn(p.shape, generator=g)
    m.eval()
    tensors = {}
    for k, v in get_peft_model_state_dict(m).items():
        tensors[k] = {"dtype": str(v.dtype).removeprefix("torch."), "shape": list(v.shape), "data": listed(v)}
    modules = {}
    for n in NAMES:
        was, now = plain.get_submodule(n), m.base_model.model.get_submodule(n)
        with torch.no_grad():
            eye = torch.eye(was.in_features)
            zero = now(torch.zeros(1, was.in_features))[0]
            w = (now(eye) - zero).T
        modules[n] = {
            "out": was.out_features, "in": was.in_features, "w": listed(was.weight),
            "bias": None if was.bias is None else listed(was.bias), "want_w": listed(w), "want_bias": listed(zero),
        }
    keep = {k: v for k, v in config.to_dict().items() if isinstance(v, (int, float, str, bool)) and k not in ("peft_version", "base_model_name_or_path")}
    keep["peft_type"] = keep["peft_type"].split(".")[-1] if isinstance(keep.get("peft_type"), str) else str(config.peft_type.value)
    return {"config": json.loads(json.dumps(keep)), "tensors": tensors, "modules": modules}


T = dict(target_modules=["q_proj", "down_proj"])
CASES = {
    "shira": lambda: peft.ShiraConfig(r=2, **T),
    "beft": lambda: peft.BeftConfig(**T),
    "deft relu": lambda: peft.DeftConfig(r=3, **T),
    "deft qr": lambda: peft.DeftConfig(r=3, decomposition_method="qr", **T),
    "deft alpha": lambda: peft.DeftConfig(r=3, decomposition_method="qr", alpha=5, **T),
    "deft para": lambda: peft.DeftConfig(r=3, para=True, **T),
    "deft square": lambda: peft.DeftConfig(r=12, decomposition_method="qr", **T),
    "delora": lambda: peft.DeloraConfig(r=3, **T),
    "glora": lambda: peft.GloraConfig(r=2, **T),
    "glora vectors": lambda: peft.GloraConfig(r=2, config_A_B="vector", config_C="vector", config_D_E="vector", **T),
    "glora constants": lambda: peft.GloraConfig(r=2, config_A_B="constant", config_C="none", config_D_E="none", **T),
    "gralora": lambda: peft.GraloraConfig(r=4, alpha=6, gralora_k=2, **T),
    "gralora hybrid": lambda: peft.GraloraConfig(r=4, alpha=6, gralora_k=4, hybrid_r=2, **T),
    "hira": lambda: peft.HiraConfig(r=3, **T),
    "osf": lambda: peft.OSFConfig(**T),
    "peanut": lambda: peft.PeanutConfig(r=3, depth=2, act_fn="gelu", scaling=0.5, **T),
    "pvera": lambda: peft.PveraConfig(r=3, **T),
    "pvera drawn": lambda: peft.PveraConfig(r=3, save_projection=False, projection_prng_key=5, **T),
    "frod": lambda: peft.FrodConfig(sparse_rate=0.1, **T),
    "supertuning": lambda: peft.SupertuningConfig(sparsity=0.8, **T),
    "supertuning lora": lambda: peft.SupertuningConfig(sparsity=0.8, r=2, lora_alpha=3, **T),
    "tinylora": lambda: peft.TinyLoraConfig(r=2, u=4, **T),
    "tinylora tied": lambda: peft.TinyLoraConfig(r=2, u=4, weight_tying=1.0, **T),
    "unilora": lambda: peft.UniLoraConfig(r=2, theta_d_length=16, save_indices=True, **T),
    "kasa": lambda: peft.LoraConfig(r=3, lora_alpha=4, kasa_config=peft.tuners.lora.config.KasaConfig(), **T),
    "pissa": lambda: peft.LoraConfig(r=3, lora_alpha=4, use_rslora=True, init_lora_weights="pissa", **T),
}
out = {"producer": f"peft {peft.__version__}, torch {torch.__version__}", "cases": {}}
for name, make in CASES.items():
    try:
        out["cases"][name] = case(make())
    except Exception as e:
        print(name, type(e).__name__, e, file=sys.stderr)
json.dump(out, sys.stdout, separators=(",", ":"))
