from array import array

from typing_extensions import Buffer

from fastpath._batch_c import Batch
from fastpath._flowtable_c import FlowCache
from fastpath._ruleset_c import RuleSet

def lookup(batch: Batch, cache: FlowCache, rules: RuleSet, *, direction: int = 0, zone: int | None = None) -> int: ...
def lookup_keys(
    cache: FlowCache,
    rules: RuleSet,
    keys: Buffer,
    out: Buffer | array[int],
    version: int = 4,
    more: Buffer | None = None,
) -> int: ...
