"""Cases for the keys of the model, its numbers, its tokenizer and its adapters."""

from __future__ import annotations

from tests.effects.case import LEARNS, Became, Case, Is, differs
from tests.effects.ground import FULL, MOODY, PACKED, SHOUTED

OTHERS = frozenset({"model.layers", "model.frozen.values", "model.trained.names"})
PARTS = LEARNS | OTHERS | {"model.trained.values", "optimizer.groups", "result.names"}
"""What follows where other parts of the model train."""

TOKENS = frozenset({"data.tokens", "data.weights", "plan.tokens"}) | LEARNS
"""What follows where rows are rendered to other text."""

BNB = {"adapter": "lora", "load_in_4bit": True}

MODEL = (
    Case(
        "base_model",
        "GROUND/other-base",
        {"base": Became("base", "other-base"), "model.frozen.values": differs},
        LEARNS,
    ),
    Case(
        "base_model_config",
        "GROUND/settings",
        {"model.settings": lambda a, b: (a["rms_norm_eps"], b["rms_norm_eps"]) == (1e-6, 0.5)},
        LEARNS,
    ),
    Case(
        "revision_of_model",
        "v2",
        {"base": Became("a" * 40, "b" * 40), "model.frozen.values": differs},
        LEARNS,
        given={"base_model": "tiny/base"},
    ),
    Case(
        "model_type",
        "LlamaForCausalLM",
        {"model.class": Became("MistralForCausalLM", "LlamaForCausalLM")},
        frozenset({"model.layers"}),
        given={"base_model": "GROUND/mistral"},
    ),
    Case(
        "trust_remote_code",
        True,
        {"log": lambda a, b: not a and "trust_remote_code has no effect" in b[0]},
    ),
    Case(
        "overrides_of_model_config",
        {"rms_norm_eps": 0.25},
        {"model.settings": lambda a, b: (a["rms_norm_eps"], b["rms_norm_eps"]) == (1e-6, 0.25)},
        LEARNS,
    ),
)

TOKENIZER = (
    Case(
        "tokenizer_config",
        "GROUND/tokenizer",
        {"tokenizer.words": differs, "data.tokens": differs},
        LEARNS,
    ),
    Case(
        "tokenizer_type",
        "Qwen2Tokenizer",
        {"tokenizer.class": Became("TokenizersBackend", "Qwen2Tokenizer")},
        # The class brings special tokens of its own.
        frozenset({"tokenizer.special", "tokenizer.words", "result.special"}),
    ),
    Case(
        "special_tokens",
        {"pad_token": "<|im_start|>"},
        {"tokenizer.special": lambda a, b: b["pad_token"] == "<|im_start|>"},
        frozenset({"result.special"}),
    ),
    Case(
        "special_tokens.bos_token",
        "<|im_start|>",
        {"tokenizer.special": lambda a, b: b == {**a, "bos_token": "<|im_start|>"}},
        frozenset({"result.special"}),
    ),
    Case(
        "special_tokens.eos_token",
        "<|endoftext|>",
        {
            "tokenizer.special": lambda a, b: b == {**a, "eos_token": "<|endoftext|>"},
            "data.stops": Became([258], [256, 258]),
        },
        frozenset({"result.special"}),
    ),
    Case(
        "special_tokens.pad_token",
        "<|im_start|>",
        {
            "tokenizer.special": lambda a, b: b == {**a, "pad_token": "<|im_start|>"},
            "batches.padding": lambda a, b: (a[0][1], b[0][1]) == ([256], [257]),
        },
        frozenset({"result.special"}),
        given={"pad_to_sequence_len": True},
    ),
    Case(
        "special_tokens.unk_token",
        "<|im_start|>",
        {"tokenizer.special": lambda a, b: b == {**a, "unk_token": "<|im_start|>"}},
        frozenset({"result.special"}),
    ),
    Case(
        "special_tokens.additional_special_tokens",
        ["<|im_start|>"],
        {"tokenizer.more": Became([], ["<|im_start|>"])},
    ),
    Case(
        "chat_template",
        "alpaca",
        {"template": Became("tokenizer_default", "alpaca"), "template.text": differs},
        TOKENS | {"result.template"},
    ),
    Case(
        "chat_template_jinja",
        SHOUTED,
        {"template": Became("tokenizer_default", "jinja"), "template.text": Is(SHOUTED)},
        TOKENS | {"result.template"},
    ),
    Case(
        "chat_template_kwargs",
        {"mood": "joy"},
        {"data.tokens": lambda a, b: all(len(y) == len(x) + 3 for x, y in zip(a, b, strict=True))},
        TOKENS,
        given={"chat_template_jinja": MOODY},
    ),
    Case(
        "eot_tokens",
        ["<|endoftext|>"],
        {"data.stops": Became([258], [256, 258])},
    ),
)

ADAPTERS = (
    Case(
        "adapter",
        "lora",
        {
            "plan.adapter": Became("none", "lora"),
            "adapter.modules": Became([], ["down_proj", "q_proj"]),
            "result.adapter": Became(None, "lora"),
        },
        PARTS
        | {
            "adapter.rank",
            "adapter.scaling",
            "adapter.dropout",
            "adapter.transposed",
            "adapter.whole",
            "model.frozen.dtypes",
            "optimizer.decay",
            "optimizer.rates",
            "files",
        },
        given={**FULL, "adapter": None, "lora_target_modules": ["q_proj", "down_proj"]},
    ),
    Case(
        "lora_r",
        6,
        {"adapter.rank": Became([4], [6])},
        LEARNS | {"adapter.scaling", "model.trained.values"},
    ),
    Case("lora_alpha", 12, {"adapter.scaling": Became([2.0], [3.0])}, LEARNS),
    Case("lora_dropout", 0.5, {"adapter.dropout": Became([0.0], [0.5])}, LEARNS | {"model.layers"}),
    Case(
        "lora_target_modules",
        ["v_proj"],
        {"adapter.modules": Became(["down_proj", "q_proj"], ["v_proj"])},
        PARTS,
    ),
    Case(
        "lora_target_linear",
        True,
        {
            "adapter.modules": Is(
                ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
            )
        },
        PARTS,
    ),
    Case(
        "lora_modules_to_save",
        ["norm", "input_layernorm", "post_attention_layernorm"],
        {"adapter.whole": lambda a, b: not a and "model.norm" in b and len(b) == 5},
        PARTS | {"optimizer.decay", "optimizer.rates"},
    ),
    Case(
        "lora_fan_in_fan_out",
        True,
        {"log": lambda a, b: not a and "lora_fan_in_fan_out: true has no effect" in b[0]},
    ),
    Case("peft_use_rslora", True, {"adapter.scaling": Became([2.0], [4.0])}, LEARNS),
)

QUANT = (
    Case(
        "load_in_4bit",
        True,
        {
            "model.quant": Became([], ["nf4 nested True"]),
            "model.frozen.dtypes": Is(["torch.float32", "torch.uint8"]),
        },
        LEARNS | {"model.frozen.values", "model.layers"},
    ),
    Case(
        "load_in_8bit",
        True,
        {"model.frozen.dtypes": Is(["torch.float32", "torch.int8"])},
        LEARNS | {"model.frozen.values", "model.layers"},
    ),
    Case(
        "bnb_config_kwargs",
        {"bnb_4bit_quant_type": "fp4"},
        {"model.quant": Became(["nf4 nested True"], ["fp4 nested True"])},
        LEARNS | {"model.frozen.values"},
        given=BNB,
    ),
)

NUMBERS = (
    Case(
        "bf16",
        True,
        {
            "plan.compute_dtype": Became("float32", "bfloat16"),
            "model.frozen.dtypes": Became(["torch.float32"], ["torch.bfloat16"]),
        },
        LEARNS | {"plan.weights_dtype", "policy.autocast", "model.frozen.values"},
    ),
    Case(
        "fp16",
        True,
        {
            "plan.compute_dtype": Became("float32", "float16"),
            "loss_scale": Became("Unscaled", "LossScale"),
        },
        LEARNS | {"policy.autocast"},
        given=FULL,
    ),
    Case("tf32", True, {"torch.matmul": Became("highest", "high")}),
    Case(
        "master_weights",
        "fp32",
        {
            "plan.weights_dtype": Became("bfloat16", "float32"),
            "model.trained.dtypes": Became(["torch.bfloat16"], ["torch.float32"]),
            "optimizer.class": Became("AdamWBf16", "AdamW"),
        },
        LEARNS | {"model.trained.values", "optimizer.more", "policy.autocast", "result.dtypes"},
        given={**FULL, "bf16": True},
    ),
    Case("deterministic", True, {"torch.deterministic": Became(False, True)}),
    Case(
        "gradient_checkpointing",
        True,
        {
            "plan.recompute": differs,
            "model.blocks": lambda a, b: set(a) == {"its own"} and "_recomputing" in b[0],
        },
    ),
    Case(
        "attn_implementation",
        "eager",
        {"plan.attention": Became("sdpa", "eager"), "model.attention": Is("eager")},
        frozenset({"steps.norm", "result.values"}),
        given={"base_model": "GROUND/rows", "lora_target_modules": ["q_proj"], **PACKED},
    ),
)

CASES = (*MODEL, *TOKENIZER, *ADAPTERS, *QUANT, *NUMBERS)
