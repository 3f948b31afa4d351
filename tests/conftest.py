"""What every test runs under: strict promotion, checked shapes, four CPU devices, a compilation cache."""

import gc
import os
import tempfile
from pathlib import Path

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4".strip()
os.environ.setdefault("MPLBACKEND", "agg")
# jaxlib 0.10.1 logs pages of harmless lines for every program read back from the cache.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import pytest
from jaxtyping import install_import_hook

# Shapes and dtypes of every annotated function of the package are checked while the tests run.
install_import_hook("innerloop", "beartype.beartype").__enter__()

cache = Path(os.environ.get("INNERLOOP_TEST_CACHE", Path(tempfile.gettempdir()) / f"innerloop-tests-{jax.__version__}"))
jax.config.update("jax_compilation_cache_dir", str(cache))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_modifyitems(items):
    """Slow tests compile dozens of programs: what bounds the others would end them on a busy machine."""
    for item in items:
        if item.get_closest_marker("slow") or item.get_closest_marker("long"):
            item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture(autouse=True, scope="module")
def forget_compiled_programs():
    """Every compiled program holds memory maps, of which a process may have 65530: one more is a segmentation fault."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def x64():
    """Run one test in float64."""
    with jax.enable_x64(True):
        yield
