"""What of the core a backend may import; the contract says the same in words."""

CONTRACT = frozenset(
    f"resnet_spec.{name}"
    for name in (
        "bench",
        "compile_cache",
        "contract",
        "digests",
        "errors",
        "folding",
        "freed_memory",
        "group",
        "losses",
        "ops",
        "optimizers",
        "plan",
        "recipe",
        "session_state",
        "session_steps",
    )
)
