"""Write a tiny vision-language model with random weights as a Hugging Face folder (Qwen2.5-VL).

The folder has everything that vLLM and transformers load from a real checkpoint (config, safetensors, byte-level BPE
tokenizer, chat template, processor configs), is a few MB, and needs no network. What it writes is noise; under a JSON
schema it is noise that keeps to the schema. Run it with the python of the environment that install.sh made:

    python make_tiny_vlm.py OUT_DIR [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

CONTEXT = 32768
MAX_SIDE = 224  # images are scaled to at most this square
VOCABULARY = 2048
PATCH = 14
TAXONOMY = Path(__file__).resolve().parents[2] / "manifests" / "attributes.yaml"

SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>",
    "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>",
    "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>",
    "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
]  # fmt: skip

CHAT_TEMPLATE = """\
{%- for message in messages %}
    {%- if loop.first and message['role'] != 'system' %}
        {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
    {%- endif %}
    {{- '<|im_start|>' + message['role'] + '\\n' }}
    {%- if message['content'] is string %}
        {{- message['content'] }}
    {%- else %}
        {%- for part in message['content'] %}
            {%- if part['type'] == 'image' or 'image' in part or 'image_url' in part %}
                {{- '<|vision_start|><|image_pad|><|vision_end|>' }}
            {%- elif part['type'] == 'video' or 'video' in part %}
                {{- '<|vision_start|><|video_pad|><|vision_end|>' }}
            {%- elif 'text' in part %}
                {{- part['text'] }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

# Qwen2's split pattern: \p{N} alone, contractions, words, punctuation, space.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def corpus(seed: int) -> Iterator[str]:
    """The taxonomy's questions and values, caption-like lines and JSON, so that prompts and answers are few tokens."""
    rng = random.Random(seed)
    lines = TAXONOMY.read_text(encoding="utf-8").partition("\nweights:")[0].splitlines()
    for _ in range(20):
        yield from lines
    for _ in range(2000):
        hair, does = rng.choice(["black", "brown", "blond", "red"]), rng.choice(["smiling", "looking", "talking"])
        yield f"A person with {hair} hair is {does} in the picture. Describe the face in detail."
        yield json.dumps({"attribute": "hair_color", "value": hair, "caption": f"a face, {does}", "visible": True})


def write_tokenizer(out: Path, seed: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(corpus(seed), trainer)
    tokenizer.save(str(out / "tokenizer.json"))
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "additional_special_tokens": SPECIAL[1:],
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
    }
    write(out / "tokenizer_config.json", config)
    (out / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return tokenizer


def write_model(out: Path, tokenizer: Tokenizer, seed: int) -> int:
    """The weights and their configuration; returns the number of parameters."""
    ids = {token: tokenizer.token_to_id(token) for token in SPECIAL}
    text = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 128,  # head_dim 32: the CPU attention kernel wants a multiple of 32
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-6,
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
        "bos_token_id": ids["<|endoftext|>"],
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]},
    }
    vision = {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 2,
        "out_hidden_size": 128,
        "patch_size": PATCH,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 112,
        "fullatt_block_indexes": [1],
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=False,
    )
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(config).to(torch.bfloat16).eval()
    with torch.no_grad():  # stronger than the usual 0.02, so that the image shows in the logits
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.08)
    model.save_pretrained(out)
    generation = {
        "bos_token_id": ids["<|endoftext|>"],
        "pad_token_id": ids["<|endoftext|>"],
        "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]],
        "do_sample": True,
        "temperature": 1.0,
    }
    write(out / "generation_config.json", generation)
    return sum(parameter.numel() for parameter in model.parameters())


def write_processor(out: Path) -> None:
    common = {
        "patch_size": PATCH,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": (2 * PATCH) ** 2 * 4, "longest_edge": MAX_SIDE**2},
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "processor_class": "Qwen2_5_VLProcessor",
    }
    write(out / "preprocessor_config.json", common | {"image_processor_type": "Qwen2VLImageProcessor"})
    video = {"video_processor_type": "Qwen2VLVideoProcessor", "min_frames": 4, "max_frames": 8}
    write(out / "video_preprocessor_config.json", common | video)


def write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a tiny vision-language model with random weights.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="another seed, another model")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    tokenizer = write_tokenizer(given.out, given.seed)
    parameters = write_model(given.out, tokenizer, given.seed)
    write_processor(given.out)
    size = sum(file.stat().st_size for file in given.out.iterdir())
    print(f"{given.out}: {parameters:,} parameters, {tokenizer.get_vocab_size()} tokens, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
