"""Coverage-guided fuzzing of the same targets with atheris: `python -m tests.fuzz.guided TARGET [LIBFUZZER OPTION]...`.

atheris follows the branches of the plain twins; every input goes through the compiled levels, too, which must agree.
Of `http`, the guest-facing front, it follows the metadata service.
It is not in the `test` extra: `pip install '.[fuzz]'`. What it finds worth keeping lands in `.cache/fuzz/TARGET`; an
input that failed goes, minimised, to `tests/fuzz/corpus/TARGET/NAME.bin`, where the first ring tries it every time.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.fuzz.stored import CORPUS


def main(argv: list[str]) -> int:
    """Fuzz one target until an option or a failure ends it."""
    try:
        import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        print("atheris is not installed: .venv/bin/pip install '.[fuzz]'", file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=["fastpath", "metadata"]):
        from tests.fuzz import batch_targets, frame_targets, http_target
    from tests.fuzz import test_batch_parsers

    targets = {**batch_targets.TARGETS, **frame_targets.TARGETS, "http": http_target.http}
    seeds = {**test_batch_parsers.SEEDS, **frame_targets.SEEDS, "http": http_target.SEEDS}
    if not argv or argv[0] not in targets:
        print(f"usage: python -m tests.fuzz.guided {{{','.join(targets)}}} [LIBFUZZER OPTION]...", file=sys.stderr)
        return 2
    name, *options = argv
    kept = Path(".cache", "fuzz", name)
    kept.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds[name]):
        (kept / f"seed-{number}").write_bytes(seed)
    folders = [str(kept), *([str(CORPUS / name)] if (CORPUS / name).is_dir() else [])]
    atheris.Setup([sys.argv[0], "-max_len=8192", *options, *folders], targets[name])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
