"""The keys of the flow hash, compiled; `_hasher_py` is the specification."""

DEFAULT_SEED = 0x6E6F6465706C616E


cdef class Hasher:
    """See `fastpath._hasher_py.Hasher`."""

    def __cinit__(self, seed=DEFAULT_SEED):
        cdef uint64_t state, value
        cdef int i
        if not 0 <= seed < 1 << 64:
            raise ValueError("seed is 64 bits")
        self.seed = seed
        state = seed
        for i in range(HASH_KEYS + 1):
            state += <uint64_t> 0x9E3779B97F4A7C15
            value = state
            value = (value ^ (value >> 30)) * <uint64_t> 0xBF58476D1CE4E5B9
            value = (value ^ (value >> 27)) * <uint64_t> 0x94D049BB133111EB
            value ^= value >> 31
            if i == 0:
                self.h.odd = value | 1
            else:
                self.h.k[i - 1] = <uint32_t> (value >> 32)

    @property
    def odd(self):
        return self.h.odd

    @property
    def keys(self):
        return tuple([self.h.k[i] for i in range(HASH_KEYS)])


default_hasher = Hasher()
