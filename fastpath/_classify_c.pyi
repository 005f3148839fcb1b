from array import array

from typing_extensions import Buffer

from fastpath._batch_c import Batch
from fastpath._ruleset_c import RuleSet

def lookup(batch: Batch, rules: RuleSet, *, direction: int = 0, zone: int | None = None) -> int: ...
def lookup_keys(
    rules: RuleSet, keys: Buffer, out: Buffer | array[int], version: int = 4, more: Buffer | None = None
) -> int: ...
