"""XLA's programs kept from one start to the next, by JAX's own persistent compilation cache.

Its keys are the programs themselves, with the version and the flags of XLA and the devices: another
network, batch or precision is another program.
"""

from __future__ import annotations

from typing import Any

import jax

from resnet_spec.compile_cache import compile_cache


def keep_programs() -> None:
    """Keep programs in $RESNET_SPEC_CACHE where it is set; those compiled before are not.

    A folder that the user has given to JAX, as by JAX_COMPILATION_CACHE_DIR, remains. Raises
    BackendError for a folder that cannot be written to.
    """
    config: Any = jax.config
    folder = compile_cache("flax")
    if folder is None or config.jax_compilation_cache_dir is not None:
        return
    config.update("jax_compilation_cache_dir", str(folder))
    # By default what takes less than a second is not kept: most of a small network's programs.
    config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
