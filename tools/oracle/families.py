"""Writes the tiny models by which a clone proves the forward pass of each family without any other data.

    python3 -m venv v && v/bin/pip install -r tools/oracle/requirements.txt
    v/bin/pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36 && tar xf llama_cpp_python-0.3.36.tar.gz
    LLAMA_CPP=llama_cpp_python-0.3.36/vendor/llama.cpp v/bin/python tools/oracle/families.py core/infer/transformer/testdata/families [NAME ...]

By hand only; the output is committed. Each NAME becomes a folder with what transformers saves (config.json,
model.safetensors), NAME.gguf where llama.cpp's own converter knows the family and gives the file the same meaning, and
golden.json: versions and command, then for two prompts of random ids the logits of the last position and the greedy
choices that follow with their margins, computed by transformers in float32 with eager attention (but where that is at fault) and no
cache. Three families are
in no released library: a model of transformers that computes the same stands in for each, and its folder is written anew in the
family's own names (see STAND_INS).
"""
import functools
import importlib
import json
import os
import pathlib
import pkgutil
import shutil
import sys
import tempfile
import traceback

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

VOCAB, WIDTH, STEPS = 272, 32, 12
PROMPTS = (11, 41)  # tokens: within a window of 16, and beyond it


def rope(base=10000.0, kind="default", **more):
    return {"rope_theta": base, "rope_type": kind, **more}


def common(layers=2, heads=4, kv=2, ffn=48, **more):
    """The settings that most families call alike."""
    return {"hidden_size": WIDTH, "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv,
            "intermediate_size": ffn, **more}


YARN = rope(10000.0, "yarn", factor=4.0, original_max_position_embeddings=32)
MOE = {"moe_intermediate_size": 24, "num_experts_per_tok": 2}
DELTA = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 8, "linear_conv_kernel_dim": 4,
         "layer_types": ["linear_attention", "linear_attention", "full_attention"]}
SCAN = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 2, "mamba_chunk_size": 16}
H1 = {"mamba_d_ssm": 64, "embedding_multiplier": 2.0, "lm_head_multiplier": 0.5, "mlp_multipliers": [0.5, 2.0], "key_multiplier": 0.5,
      "attention_in_multiplier": 0.5, "attention_out_multiplier": 2.0, "ssm_in_multiplier": 2.0, "ssm_out_multiplier": 0.5,
      "ssm_multipliers": [0.5, 2.0, 0.5, 2.0, 0.25], **SCAN}  # powers of two, which a file in float16 holds
LATENT = {"kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "head_dim": 8}

# name: (model_type, settings, what a GGUF cannot say: then the folder only)
FAMILIES = {
    "llama": ("llama", common(), True),
    "llama-yarn": ("llama", common(max_position_embeddings=128, rope_parameters=YARN), True),
    "llama-llama3": ("llama", common(rope_parameters=rope(10000.0, "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                                          original_max_position_embeddings=32)), True),
    "mistral": ("mistral", common(sliding_window=16), False),
    "ministral": ("ministral", common(head_dim=16, sliding_window=16, layer_types=["sliding_attention", "full_attention"]), False),
    "ministral3": ("ministral3", common(head_dim=16, rope_parameters=rope(1e6, "yarn", factor=4.0, original_max_position_embeddings=16,
                                        beta_fast=32.0, beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.25)), True),
    "mixtral": ("mixtral", common(num_local_experts=4, num_experts_per_tok=2), True),
    "qwen2": ("qwen2", common(tie_word_embeddings=True), True),
    "qwen3": ("qwen3", common(head_dim=16), True),
    "qwen2_moe": ("qwen2_moe", common(num_experts=4, shared_expert_intermediate_size=40, **MOE), True),
    "qwen3_moe": ("qwen3_moe", common(head_dim=16, num_experts=4, norm_topk_prob=True, **MOE), True),
    "gpt2": ("gpt2", {"n_embd": WIDTH, "n_layer": 2, "n_head": 4, "n_positions": 128}, True),
    "gemma": ("gemma", common(kv=1, head_dim=16), True),
    "gemma2": ("gemma2", common(head_dim=16, sliding_window=16, query_pre_attn_scalar=16, attn_logit_softcapping=3.0,
                                final_logit_softcapping=12.0), True),
    "vaultgemma": ("vaultgemma", common(head_dim=16, sliding_window=16, query_pre_attn_scalar=16, attn_logit_softcapping=3.0,
                                        final_logit_softcapping=12.0), False),
    "gemma3": ("gemma3_text", common(layers=7, kv=1, head_dim=16, sliding_window=16, query_pre_attn_scalar=16,
                                     rope_parameters={"sliding_attention": rope(), "full_attention": rope(1e6, "linear", factor=8.0)}), True),
    "phi": ("phi", common(kv=4, ffn=128, rope_parameters=rope(partial_rotary_factor=0.5)), True),
    "phi3": ("phi3", common(), True),
    "granite": ("granite", common(embedding_multiplier=6.0, logits_scaling=2.0, residual_multiplier=0.375, attention_multiplier=0.25), True),
    "granite_swa": ("granite_swa", common(embedding_multiplier=4.0, logits_scaling=1.25, residual_multiplier=0.375,
                                          attention_multiplier=0.1875, sliding_window=16, layer_rope_theta=[0, 5000.0]), False),
    "granitemoe": ("granitemoe", common(embedding_multiplier=6.0, logits_scaling=2.0, residual_multiplier=0.375,
                                        attention_multiplier=0.25, num_local_experts=4, num_experts_per_tok=2), True),
    "smollm3": ("smollm3", common(layers=5), True),
    "olmo": ("olmo", common(clip_qkv=1.5), True),
    "olmo2": ("olmo2", common(kv=4), True),
    "olmo3": ("olmo3", common(layers=4, sliding_window=16), False),
    "olmoe": ("olmoe", common(num_experts=4, num_experts_per_tok=2), True),
    "exaone4": ("exaone4", common(layers=4, sliding_window=16, sliding_window_pattern=4), False),
    "hunyuan": ("hunyuan_v1_dense", common(head_dim=16), True),
    "glm": ("glm", common(head_dim=8, attention_bias=True, rms_norm_eps=1e-5, rope_parameters=rope(partial_rotary_factor=0.5)), True),
    "glm4": ("glm4", common(head_dim=16, attention_bias=True, rope_parameters=rope(partial_rotary_factor=0.5)), True),
    "glm4_moe": ("glm4_moe", common(head_dim=16, n_routed_experts=4, n_shared_experts=1, first_k_dense_replace=1, n_group=1, topk_group=1,
                                    norm_topk_prob=True, routed_scaling_factor=1.5, rope_parameters=rope(partial_rotary_factor=0.5), **MOE), True),
    "ernie4_5": ("ernie4_5", common(head_dim=16, tie_word_embeddings=True, use_bias=False), True),
    "ernie4_5_moe": ("ernie4_5_moe", common(moe_num_experts=4, moe_k=2, moe_intermediate_size=24, moe_num_shared_experts=1,
                                            moe_layer_start_index=1, moe_layer_end_index=-1, moe_layer_interval=1), True),
    "cohere": ("cohere", common(logit_scale=0.75), True),
    "cohere2": ("cohere2", common(layers=4, head_dim=16, logit_scale=0.75, sliding_window=16), False),
    "stablelm": ("stablelm", common(kv=4, use_qkv_bias=True, rope_parameters=rope(partial_rotary_factor=0.25)), True),
    "starcoder2": ("starcoder2", common(kv=1, ffn=96, tie_word_embeddings=True), True),
    "gpt_neox": ("gpt_neox", {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96,
                              "use_parallel_residual": True, "rope_parameters": rope(partial_rotary_factor=0.5)}, True),
    "gptj": ("gptj", {"n_embd": WIDTH, "n_layer": 2, "n_head": 2, "rotary_dim": 8, "n_inner": 96, "n_positions": 128}, False),
    "codegen": ("codegen", {"n_embd": 64, "n_layer": 2, "n_head": 4, "rotary_dim": 8, "n_inner": 96, "n_positions": 128}, False),
    "falcon": ("falcon", {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_hidden_size": 128,
                          "multi_query": True, "parallel_attn": True, "new_decoder_architecture": False, "bias": False}, True),
    "mpt": ("mpt", {"d_model": WIDTH, "n_heads": 4, "n_layers": 2, "max_seq_len": 128}, False),
    "bloom": ("bloom", {"hidden_size": WIDTH, "n_layer": 2, "n_head": 4}, True),
    "nemotron": ("nemotron", common(ffn=96, rope_parameters=rope(partial_rotary_factor=0.5)), True),
    "arcee": ("arcee", common(ffn=96), True),
    "apertus": ("apertus", common(ffn=96), True),
    "bitnet": ("bitnet", common(tie_word_embeddings=True), False),
    "opt": ("opt", {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 96, "word_embed_proj_dim": WIDTH,
                    "max_position_embeddings": 128}, False),
    "seed_oss": ("seed_oss", common(head_dim=16), True),
    "helium": ("helium", common(kv=4, head_dim=8), False),
    "cwm": ("cwm", common(layers=4, head_dim=16, bos_token_id=1, sliding_window=16, rope_parameters=rope(1e6, "llama3", factor=16.0, low_freq_factor=1.0,
                          high_freq_factor=4.0, original_max_position_embeddings=32)), False),
    "minimax_m2": ("minimax_m2", common(head_dim=16, num_local_experts=4, num_experts_per_tok=2,
                                        rope_parameters=rope(partial_rotary_factor=0.5)), True),
    "phimoe": ("phimoe", common(num_local_experts=4, num_experts_per_tok=2), False),
    "gpt_oss": ("gpt_oss", common(head_dim=16, sliding_window=16, num_local_experts=4, num_experts_per_tok=2,
                                  rope_parameters=rope(150000.0)), False),
    "deepseek_v2": ("deepseek_v2", common(kv=4, q_lora_rank=24, n_routed_experts=4, n_shared_experts=1, first_k_dense_replace=1,
                                          n_group=1, topk_group=1, topk_method="greedy", routed_scaling_factor=1.0, **MOE, **LATENT), False),
    "deepseek_v3": ("deepseek_v3", common(kv=4, q_lora_rank=24, n_routed_experts=8, n_shared_experts=1, first_k_dense_replace=1,
                                          n_group=2, topk_group=1, routed_scaling_factor=2.5, norm_topk_prob=True, **MOE, **LATENT), False),
    "qwen3_5": ("qwen3_5_text", common(layers=3, head_dim=16, tie_word_embeddings=True, rope_parameters=rope(1e6, partial_rotary_factor=0.25), **DELTA), True),
    "qwen3_5_moe": ("qwen3_5_moe_text", common(layers=3, head_dim=16, num_experts=4, shared_expert_intermediate_size=40,
                                               rope_parameters=rope(1e6, partial_rotary_factor=0.25), **MOE, **DELTA), True),
    "qwen3_next": ("qwen3_next", common(layers=3, head_dim=16, num_experts=4, shared_expert_intermediate_size=40,
                                        rope_parameters=rope(1e6, partial_rotary_factor=0.25), **MOE, **DELTA), True),
    "mamba2": ("mamba2", {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 2,
                          "chunk_size": 16}, True),
    "granitemoehybrid": ("granitemoehybrid", common(layers=3, layer_types=["linear_attention", "full_attention", "linear_attention"],
                                                    shared_intermediate_size=48, num_local_experts=0, num_experts_per_tok=0,
                                                    embedding_multiplier=6.0, logits_scaling=2.0, residual_multiplier=0.375,
                                                    attention_multiplier=0.25, position_embedding_type="nope", **SCAN), True),
    "bamba": ("bamba", common(layers=3, attn_layer_indices=[1], **SCAN), False),
    "falcon_h1": ("falcon_h1", common(head_dim=16, rope_parameters=rope(1e5), **H1), True),
    "falcon_h1-norm": ("falcon_h1", common(head_dim=16, rope_parameters=rope(1e5), mamba_rms_norm=True, **H1), False),
    "nemotron_h": ("nemotron_h", {"hidden_size": WIDTH, "layers_block_type": ["linear_attention", "mlp", "full_attention", "moe"],
                                  "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 48, "mamba_num_heads": 4,
                                  "mamba_head_dim": 16, "n_groups": 2, "ssm_state_size": 8, "chunk_size": 16, "n_routed_experts": 4,
                                  "moe_intermediate_size": 24, "moe_shared_expert_intermediate_size": 40, "num_experts_per_tok": 2,
                                  "routed_scaling_factor": 2.5}, True),
    "mamba": ("mamba", {"hidden_size": WIDTH, "num_hidden_layers": 2, "state_size": 8, "time_step_rank": 4, "tie_word_embeddings": False}, True),
    "falcon_mamba": ("falcon_mamba", {"hidden_size": WIDTH, "num_hidden_layers": 2, "state_size": 8, "time_step_rank": 4, "mixer_rms_eps": 1e-5,
                                      "tie_word_embeddings": False}, True),
    "jamba": ("jamba", common(layers=4, attn_layer_period=4, attn_layer_offset=1, expert_layer_period=2, expert_layer_offset=1, num_experts=4,
                              num_experts_per_tok=2, mamba_d_state=8, mamba_dt_rank=4), True),
    "gemma3n": ("gemma3n_text", common(layers=22, heads=2, kv=1, ffn=32, head_dim=8, sliding_window=16, num_kv_shared_layers=2, laurel_rank=8,
                                       hidden_size_per_layer_input=8, vocab_size_per_layer_input=VOCAB), True),
    "gemma4": ("gemma4_text", common(layers=8, kv=1, head_dim=8, global_head_dim=16, sliding_window=16, hidden_size_per_layer_input=8,
                                     vocab_size_per_layer_input=VOCAB, num_kv_shared_layers=4, use_double_wide_mlp=True,
                                     final_logit_softcapping=12.0, layer_types=["sliding_attention", "full_attention"] * 4), True),
    "gemma4_moe": ("gemma4_text", common(layers=3, head_dim=8, global_head_dim=16, num_global_key_value_heads=1, attention_k_eq_v=True,
                                         enable_moe_block=True, num_experts=4, top_k_experts=2, moe_intermediate_size=24,
                                         final_logit_softcapping=12.0, hidden_size_per_layer_input=0, vocab_size_per_layer_input=VOCAB, sliding_window=16,
                                         layer_types=["sliding_attention", "sliding_attention", "full_attention"]), True),
    "gpt_bigcode": ("gpt_bigcode", {"n_embd": WIDTH, "n_layer": 2, "n_head": 4, "n_positions": 128}, True),
    "gpt_neo": ("gpt_neo", {"hidden_size": WIDTH, "num_layers": 2, "num_heads": 4, "intermediate_size": 96, "window_size": 16,
                            "attention_types": [[["global", "local"], 1]]}, False),
    "hyperclovax": ("hyperclovax", common(embedding_multiplier=4.0, logits_scaling=2.0, residual_multiplier=0.5, attention_multiplier=0.25), False),
    "jais2": ("jais2", common(ffn=96), True),
    "nanochat": ("nanochat", common(ffn=96), False),
    "xglm": ("xglm", {"d_model": WIDTH, "num_layers": 2, "attention_heads": 4, "ffn_dim": 96, "max_position_embeddings": 128}, False),
    "biogpt": ("biogpt", {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}, False),
    "opt-350m": ("opt", {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 96, "word_embed_proj_dim": 24,
                         "do_layer_norm_before": False, "max_position_embeddings": 128}, False),
    "persimmon": ("persimmon", {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96,
                                "rope_parameters": rope(partial_rotary_factor=0.5)}, False),
    "falcon-rw": ("falcon", {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_hidden_size": 128, "alibi": True,
                             "multi_query": False, "parallel_attn": False, "new_decoder_architecture": False, "bias": True}, False),
    "internlm2": ("llama", common(), True),
    "minicpm": ("granite", common(embedding_multiplier=12.0, logits_scaling=2.0, residual_multiplier=1.4 / 2 ** 0.5, attention_multiplier=8 ** -0.5), True),
    "deepseek": ("qwen2_moe", common(layers=3, num_experts=4, shared_expert_intermediate_size=48, mlp_only_layers=[0], norm_topk_prob=False, **MOE), True),
    "minicpm3": ("minicpm3", common(kv=4, q_lora_rank=24, scale_depth=1.4, **{k: v for k, v in LATENT.items() if k != "head_dim"}), True),
    "lfm3": ("lfm3", common(layers=3, head_dim=16, conv_L_cache=4, sliding_window=16, layer_types=["conv", "sliding_attention", "full_attention"]), False),
    "recurrent_gemma": ("recurrent_gemma", common(layers=3, kv=1, ffn=96, lru_width=WIDTH, attention_window_size=16), False),
    "olmo_hybrid": ("olmo_hybrid", common(layers=3, kv=4, linear_key_head_dim=8, linear_value_head_dim=12,
                                          layer_types=["linear_attention", "linear_attention", "full_attention"]), False),
    "kimi_linear": ("kimi_linear", common(layers=3, kv=4, linear_head_dim=8, linear_num_heads=4, num_local_experts=4, num_experts_per_tok=2,
                                          moe_intermediate_size=24, n_shared_experts=1, layer_types=["linear_attention", "linear_attention", "full_attention"],
                                          mlp_layer_types=["dense", "sparse", "sparse"], **{k: v for k, v in LATENT.items() if k != "head_dim"}), False),
    "minimax": ("minimax", common(layers=2, head_dim=8, num_local_experts=4, num_experts_per_tok=2, block_size=16,
                                  layer_types=["linear_attention", "full_attention"], linear_attn_alpha_factor=1.25, linear_attn_beta_factor=0.5,
                                  full_attn_alpha_factor=1.5, full_attn_beta_factor=0.75, mlp_alpha_factor=1.5, mlp_beta_factor=0.5), False),
}


def config(kind, settings):
    probe = transformers.AutoConfig.for_model(kind)
    lengths = [k for k in ("max_position_embeddings", "n_positions", "max_seq_len") if hasattr(probe, k)]
    given = {"vocab_size": VOCAB, "bos_token_id": None, "eos_token_id": VOCAB - 1, "pad_token_id": None, **settings}
    if lengths and not any(k in given for k in lengths):
        given[lengths[0]] = 128
    return transformers.AutoConfig.for_model(kind, **given)


# Factors of what attention adds, for models of so many layers that keys in float16 would lead elsewhere.
QUIET = {"gemma3n": 0.25}


def fill(model, seed, quiet=1.0):
    """Random weights with useful margins, exact in float16, bfloat16 and float32 at once."""
    draw = torch.Generator().manual_seed(seed)
    tied = bool(getattr(model.config, "tie_word_embeddings", False))
    embedding = model.get_input_embeddings().weight
    with torch.no_grad():
        tensors = sorted(model.named_parameters()) + sorted((n, b) for n, b in model.named_buffers() if n.endswith(("score_correction_bias", "layer_scalar")))
        for name, p in tensors:
            noise = torch.randn(p.shape, generator=draw)
            if p is embedding:
                value = noise * (0.15 if tied else 1.0)
            elif name.endswith("coefs.weight"):  # of streams that are added to themselves in every layer
                value = noise * 0.2
            elif p.dim() >= 2:
                value = noise * 1.4 / p.shape[-1] ** 0.5
            elif name.endswith(("weight", "layer_scalar", "router.scale", "per_expert_scale", "correct_output_scale")):  # a norm, around its neutral value
                value = p.float().mean().round() + 0.2 * noise
                if tied and not any(part.isdigit() for part in name.split(".")):
                    value = 3.0 * noise  # the last one: or the last token would win for ever
            else:
                value = 0.1 * noise
            if name.endswith(("q_norm.weight", "post_attention_layernorm.weight")):
                value = value * quiet
            value = value.to(torch.bfloat16).float()
            value[value.abs() < 2.0 ** -13] = 0
            p.copy_(value.to(p.dtype))


def golden(folder, seed):
    # Eager attention adds Falcon's ALiBi twice.
    attention = "sdpa" if json.loads((folder / "config.json").read_text()).get("alibi") else "eager"
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention).eval()
    draw = np.random.default_rng(seed)
    prompts = []
    with torch.no_grad():
        for length in PROMPTS:
            ids = [int(i) for i in draw.integers(0, 256, length)]
            run, greedy, margins, last = list(ids), [], [], None
            for _ in range(STEPS):
                logits = model(input_ids=torch.tensor([run]), use_cache=False).logits[0, -1].double().numpy()
                last = logits if last is None else last
                best, second = np.argsort(-logits)[:2]
                greedy.append(int(best))
                margins.append(round(float(logits[best] - logits[second]), 5))
                run.append(int(best))
            prompts.append({"ids": ids, "logits": [round(float(x), 5) for x in last], "greedy": greedy, "margins": margins})
    return prompts


def tokenizer(folder):
    """A byte-level tokenizer without merges, which the converter wants to see."""
    names = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {name: i for i, name in enumerate(names)}
    t = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    # Classes of tokenizers add their own end of text where it is missing.
    t.add_special_tokens(["<|endoftext|>"] + [f"<{i}>" for i in range(len(names) + 1, VOCAB)])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=t, eos_token=f"<{VOCAB - 1}>")
    fast.save_pretrained(folder)


def internlm2(settings, tensors):
    """llama in InternLM2's names: for each key head its queries, the key and the value in one matrix."""
    names = {"embed_tokens": "tok_embeddings", "lm_head": "output", "input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm",
             "self_attn.o_proj": "attention.wo", "mlp.gate_proj": "feed_forward.w1", "mlp.up_proj": "feed_forward.w3", "mlp.down_proj": "feed_forward.w2"}
    kv, dim = settings["num_key_value_heads"], settings["head_dim"]
    for layer in range(settings["num_hidden_layers"]):
        parts = [tensors.pop(f"model.layers.{layer}.self_attn.{x}_proj.weight").view(kv, -1, dim, WIDTH) for x in "qkv"]
        tensors[f"model.layers.{layer}.attention.wqkv.weight"] = torch.cat(parts, 1).reshape(-1, WIDTH)
    out = {}
    for name, tensor in tensors.items():
        for old, new in names.items():
            name = name.replace(old, new)
        out[name] = tensor
    return {**settings, "model_type": "internlm2", "architectures": ["InternLM2ForCausalLM"], "bias": False}, out


def minicpm(settings, tensors):
    """granite with the factors under MiniCPM's names."""
    own = {k: v for k, v in settings.items() if not k.endswith(("_multiplier", "logits_scaling"))}
    return {**own, "model_type": "minicpm", "architectures": ["MiniCPMForCausalLM"], "scale_emb": 12, "scale_depth": 1.4, "dim_model_base": WIDTH // 2}, tensors


def deepseek(settings, tensors):
    """qwen2_moe without biases, whose shared expert's gate is zero and so halves: DeepSeekMoE's shared experts give half of it."""
    out = {}
    for name, tensor in tensors.items():
        if name.endswith("shared_expert_gate.weight"):
            continue
        if name.endswith("self_attn.q_proj.bias") or name.endswith("self_attn.k_proj.bias") or name.endswith("self_attn.v_proj.bias"):
            continue
        if name.endswith("shared_expert.down_proj.weight"):
            tensor = tensor / 2
        out[name.replace("shared_expert.", "shared_experts.")] = tensor
    keep = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size", "vocab_size", "rms_norm_eps", "hidden_act",
            "max_position_embeddings", "tie_word_embeddings", "moe_intermediate_size", "num_experts_per_tok", "norm_topk_prob", "dtype", "eos_token_id")
    return {**{k: settings[k] for k in keep}, "model_type": "deepseek", "architectures": ["DeepseekForCausalLM"], "n_routed_experts": settings["num_experts"],
            "n_shared_experts": 2, "first_k_dense_replace": 1, "moe_layer_freq": 1, "scoring_func": "softmax", "rope_theta": 10000.0}, out


# Whose folders hold tables that follow from the configuration, and that transformers reads back as they were rounded.
WIDE = ("minimax",)

# Families in no released library: what makes their folder of that of the model that stands in, and the tensors that are zero there.
STAND_INS = {"internlm2": internlm2, "minicpm": minicpm, "deepseek": deepseek}
ZERO = {"deepseek": ("shared_expert_gate.weight", "q_proj.bias", "k_proj.bias", "v_proj.bias")}


def rewrite(folder, how):
    weights, file = folder / "model.safetensors", folder / "config.json"
    settings, tensors = how(json.loads(file.read_text()), load_file(weights))
    save_file({k: v.contiguous() for k, v in tensors.items()}, weights, {"format": "pt"})
    file.write_text(json.dumps(settings, indent=2) + "\n")


# What the converter looks for under names that transformers 5 no longer writes, for its copy of config.json only.
OLD_NAMES = {"gpt2": {"n_ctx": 128}, "gpt_neox": {"rotary_pct": 0.5}, "falcon": {"num_kv_heads": 1}, "minimax_m2": {"rotary_dim": 8},
             "glm": {"seq_length": 128}, "granitemoehybrid": {"layer_types": ["mamba", "attention", "mamba"]},
             "gpt_bigcode": {"n_inner": 4 * WIDTH}, "internlm2": {"rope_theta": 10000.0}, "minicpm": {"rope_theta": 10000.0},
             "nemotron_h": {"hybrid_override_pattern": "M-*E", "num_hidden_layers": 4}}


# What it is told beside, and the families of whose tensors it computes others: it does so in the type of the folder, and is given float32.
FLAGS = {name: ["--no-mtp"] for name in ("qwen3_5", "qwen3_5_moe", "qwen3_next")}
COMPUTED = {"qwen3_5", "qwen3_5_moe", "qwen3_next", "mamba2", "granitemoehybrid", "falcon_h1", "nemotron_h", "mamba",
            "falcon_mamba", "jamba"}


def converter():
    """llama.cpp's converter, told that this tokenizer is a GPT-2's whatever a family has."""
    sys.path[:0] = [os.environ["LLAMA_CPP"], os.environ["LLAMA_CPP"] + "/gguf-py"]
    import conversion
    import conversion.base as base
    import convert_hf_to_gguf
    for module in pkgutil.iter_modules(conversion.__path__):
        try:
            importlib.import_module("conversion." + module.name)
        except ImportError:
            pass  # wants packages that no family here needs
    base.TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
    # As the file says, without what transformers makes of it.
    base.ModelBase.load_hparams = staticmethod(lambda folder, *_, **__: json.loads((pathlib.Path(folder) / "config.json").read_text()))
    classes = list(base.TextModel.__subclasses__())
    while classes:
        cls = classes.pop()
        classes += cls.__subclasses__()
        if "set_vocab" in cls.__dict__:
            cls.set_vocab = lambda self: self._set_vocab_gpt2()
    return convert_hf_to_gguf


def convert(folder, out, script=functools.cache(converter)):
    script = script()
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        tokenizer(copy)
        if out.stem in COMPUTED:
            weights = pathlib.Path(copy) / "model.safetensors"
            save_file({k: v.float() for k, v in load_file(weights).items()}, weights, {"format": "pt"})
        settings = pathlib.Path(copy) / "config.json"
        settings.write_text(json.dumps({**json.loads(settings.read_text()), **OLD_NAMES.get(out.stem, {})}))
        child = os.fork()  # the converter's classes keep state
        if child == 0:
            try:
                sys.argv = ["convert", copy, "--outfile", str(out), "--outtype", "f16", *FLAGS.get(out.stem, [])]
                script.main()
                os._exit(0)
            except BaseException as e:  # noqa: BLE001
                traceback.print_exception(e)
                sys.stderr.flush()
                os._exit(1)
        _, status = os.waitpid(child, 0)
    if status or not out.exists():
        raise RuntimeError("the converter failed, see above")


def make(name, out, seed):
    kind, settings, both = FAMILIES[name]
    home = out / name
    shutil.rmtree(home, ignore_errors=True)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config(kind, settings), dtype=torch.float32).eval()
    fill(model, seed, QUIET.get(name, 1.0))
    with torch.no_grad():
        for tensor, p in model.named_parameters():
            if tensor.endswith(ZERO.get(name, ("-",))):
                p.zero_()
    model.to(torch.float32 if name in WIDE else torch.float16).save_pretrained(home)
    (home / "generation_config.json").unlink(missing_ok=True)
    head = {"made_by": f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}, float32, {'sdpa' if name == 'falcon-rw' else 'eager attention'}, no cache",
            "command": "python tools/oracle/families.py core/infer/transformer/testdata/families " + name}
    text = json.dumps({**head, "prompts": golden(home, seed)}, separators=(",", ":"))
    (home / "golden.json").write_text(text.replace(',"command"', ',\n"command"').replace(',"prompts"', ',\n"prompts"').replace('{"ids"', '\n{"ids"') + "\n")
    if name in STAND_INS:
        rewrite(home, STAND_INS[name])
    if both:
        convert(home, home / f"{name}.gguf")


def main():
    out = pathlib.Path(sys.argv[1])
    torch.set_num_threads(1)
    for name in sys.argv[2:] or FAMILIES:
        try:
            make(name, out, 1000 + list(FAMILIES).index(name))
            print(name, flush=True)
        except Exception as e:  # noqa: BLE001: the others are made all the same
            print(name, "FAILED", type(e).__name__, str(e)[:600], flush=True)


if __name__ == "__main__":
    main()
