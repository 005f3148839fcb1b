# Words that one thread stores and others load meanwhile.

from libc.stdint cimport uint32_t, uint64_t

from fastpath._classify cimport engine_t

cdef extern from * nogil:
    """
    #include "classify_engine.h"
    static inline void np_store_engine(engine_t **at, engine_t *e) { __atomic_store_n(at, e, __ATOMIC_SEQ_CST); }
    static inline engine_t *np_load_engine(engine_t **at) { return __atomic_load_n(at, __ATOMIC_SEQ_CST); }
    static inline void np_store_epoch(uint64_t *at, uint64_t w) { __atomic_store_n(at, w, __ATOMIC_SEQ_CST); }
    static inline uint64_t np_load_epoch(uint64_t *at) { return __atomic_load_n(at, __ATOMIC_SEQ_CST); }
    static inline int np_claim(uint64_t *at, uint64_t w) {
        uint64_t nobody = 0;
        return __atomic_compare_exchange_n(at, &nobody, w, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    }
    static inline void np_store_word(uint32_t *at, uint32_t w) { __atomic_store_n(at, w, __ATOMIC_RELEASE); }
    """
    void np_store_engine(engine_t **at, engine_t *e)
    engine_t *np_load_engine(engine_t **at)
    void np_store_epoch(uint64_t *at, uint64_t w)
    uint64_t np_load_epoch(uint64_t *at)
    int np_claim(uint64_t *at, uint64_t w)      # 0: somebody has it
    void np_store_word(uint32_t *at, uint32_t w)
