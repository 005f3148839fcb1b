"""Which instruction sets this processor and system can run."""


cdef extern from *:
    """
    #if defined(__x86_64__)
    static int nodeplane_avx2(void) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2")
            && __builtin_cpu_supports("fma") && __builtin_cpu_supports("popcnt");
    }
    static int nodeplane_avx512(void) {
        return nodeplane_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi");
    }
    #else
    static int nodeplane_avx2(void) { return 0; }
    static int nodeplane_avx512(void) { return 0; }
    #endif
    """
    bint nodeplane_avx2() nogil
    bint nodeplane_avx512() nogil


def levels():
    """Return the levels that can run here, lowest first; the system's support for the registers is included."""
    found = ["baseline"]
    if nodeplane_avx2():
        found.append("avx2")
    if nodeplane_avx512():
        found.append("avx512")
    return tuple(found)
