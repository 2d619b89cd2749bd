#!/usr/bin/env python3
"""Makes the logits that kvstow's forward pass is compared with, using Hugging Face transformers.

    python3 -m venv VENV && VENV/bin/pip install torch transformers safetensors
    VENV/bin/python tests/cpu/hf/make_expected.py

writes, beside this script, one folder for each case:

    config.json            as transformers saves it
    expected.safetensors   prompt [n], tokens [65], logits [65, vocab], all F32: the logits after
                           the prompt and after each of 64 greedily decoded tokens
    model*.safetensors     only for the cases named saved-*: a checkpoint as transformers saves it

The other cases need no checkpoint: their weights are those of kvstow's random_weights(seed 1),
which `random_weight` below repeats (core/exec/model/weights.cpp, core/rng.h). Everything is
computed in float32 on the CPU, with one forward pass per token on transformers' own cache.
"""

import copy
import pathlib

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent
SEED = 1
DECODED = 64
MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix64(x):
    """splitmix64's finaliser, on a Python integer or an array of uint64."""
    if isinstance(x, int):
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
        return x ^ (x >> 31)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniforms(seed, purpose, count):
    """The first `count` numbers of RandomStream(seed, purpose).uniform()."""
    name = 0xCBF29CE484222325
    for byte in purpose.encode():
        name = ((name ^ byte) * 0x100000001B3) & MASK
    key = mix64((seed + GOLDEN) & MASK) ^ name
    with np.errstate(over="ignore"):
        counter = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GOLDEN) + np.uint64(key)
        return (mix64(counter) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def random_weight(name, shape):
    matrix = len(shape) == 2
    norm = not matrix and not name.endswith("bias")
    scale = np.sqrt(3.0 / shape[1]) if matrix else 0.2
    values = (1.0 if norm else 0.0) + scale * (2 * uniforms(SEED, "weights/" + name, int(np.prod(shape))) - 1)
    return values.astype(np.float32).reshape(shape)


def opt(hidden, heads, ffn, layers, vocab):
    return transformers.OPTConfig(
        hidden_size=hidden, num_attention_heads=heads, ffn_dim=ffn, num_hidden_layers=layers,
        vocab_size=vocab, max_position_embeddings=256, word_embed_proj_dim=hidden)


def llama(hidden, heads, kv_heads, ffn, layers, vocab):
    return transformers.LlamaConfig(
        hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=kv_heads,
        intermediate_size=ffn, num_hidden_layers=layers, vocab_size=vocab,
        max_position_embeddings=256)


def qwen3(hidden, heads, kv_heads, head_dim, ffn, layers, vocab, tied):
    return transformers.Qwen3Config(
        hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=kv_heads,
        head_dim=head_dim, intermediate_size=ffn, num_hidden_layers=layers, vocab_size=vocab,
        max_position_embeddings=256, tie_word_embeddings=tied)


# name: (config, prompt tokens, dtype of a saved checkpoint or None, size of its shards)
CASES = {
    "opt-4-heads": (opt(48, 4, 192, 2, 96), 20, None, None),
    "opt-long-prompt": (opt(96, 6, 200, 3, 64), 150, None, None),
    "llama-gqa-1": (llama(64, 4, 4, 172, 2, 96), 17, None, None),
    "llama-gqa-8": (llama(128, 8, 1, 100, 3, 64), 130, None, None),
    "qwen3-gqa-2": (qwen3(48, 4, 2, 24, 128, 3, 80, True), 33, None, None),
    "qwen3-gqa-4": (qwen3(80, 8, 2, 16, 96, 2, 64, False), 128, None, None),
    "saved-opt-f32": (opt(16, 2, 32, 2, 48), 9, torch.float32, "1GB"),
    "saved-llama-f16": (llama(16, 2, 1, 24, 2, 48), 9, torch.float16, "1GB"),
    "saved-qwen3-bf16-sharded": (qwen3(16, 4, 2, 8, 24, 2, 48, True), 9, torch.bfloat16, "4KB"),
}


@torch.no_grad()
def make(name, config, prompt_tokens, dtype, shard_size):
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    config.use_cache = True
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    for key, parameter in model.named_parameters():
        parameter.copy_(torch.from_numpy(random_weight(key, tuple(parameter.shape))))
    if dtype is not None:
        # A copy is saved: .to(dtype) would round the rotary frequencies of this one, too.
        copy.deepcopy(model).to(dtype).save_pretrained(folder, max_shard_size=shard_size)
        for parameter in model.parameters():
            parameter.copy_(parameter.to(dtype).float())
        (folder / "generation_config.json").unlink(missing_ok=True)
    config.save_pretrained(folder)

    draws = uniforms(SEED, "prompt/" + name, prompt_tokens)
    prompt = (draws * config.vocab_size).astype(np.int64)
    step = torch.from_numpy(prompt)[None]
    cache, logits, tokens, gap = None, [], [], np.inf
    for _ in range(DECODED + 1):
        out = model(input_ids=step, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        row = out.logits[0, -1].numpy()
        best = np.sort(row)[-2:]
        gap = min(gap, float(best[1] - best[0]))
        logits.append(row)
        tokens.append(int(row.argmax()))
        step = torch.tensor([[tokens[-1]]])
    save_file({"prompt": prompt.astype(np.float32), "tokens": np.array(tokens, np.float32),
               "logits": np.stack(logits)}, folder / "expected.safetensors")
    print(f"{name}: {len(set(tokens))} different tokens, smallest gap of the two best logits {gap:.1e}")


if __name__ == "__main__":
    for case, arguments in CASES.items():
        make(case, *arguments)
