"""What this CPU can run, and what this build was made with."""

cdef extern from *:
    """
    #if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
    /* The builtins also ask the operating system whether it saves the wide registers. bmi2, fma and avx2 stand for
       level 3: no CPU has shipped those without the rest of it (bmi, f16c, lzcnt, movbe). */
    static int fastgd_v3(void) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi")
            && __builtin_cpu_supports("bmi2");
    }
    static int fastgd_v4(void) {
        return fastgd_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512vl");
    }
    static int fastgd_intel(void) { return fastgd_v4() && __builtin_cpu_is("intel"); }
    #else
    static int fastgd_v3(void) { return 0; }
    static int fastgd_v4(void) { return 0; }
    static int fastgd_intel(void) { return 0; }
    #endif
    #if defined(__clang__)
    #define FASTGD_COMPILER "clang " __clang_version__
    #elif defined(__GNUC__)
    #define FASTGD_COMPILER "gcc " __VERSION__
    #else
    #define FASTGD_COMPILER "unknown"
    #endif
    """
    int fastgd_v3()
    int fastgd_v4()
    int fastgd_intel()
    const char *FASTGD_COMPILER


def levels() -> tuple[str, ...]:
    """The instruction-set levels that this CPU and operating system support, lowest first."""
    names = ["baseline"]
    if fastgd_v3():
        names.append("x86-64-v3")
    if fastgd_v4():
        names.append("x86-64-v4")
    return tuple(names)


#: Whether scattered stores are faster than as many single ones: to AMD's processors of level 4 they are microcode.
scatters_fast: bool = bool(fastgd_intel())
#: Places of memory that a core reads fastest side by side. Intel's keep more cache lines under way from several
#: sequential streams than from one; AMD's do best with one (both measured).
streams: int = 4 if fastgd_intel() else 1
compiler: str = FASTGD_COMPILER.decode()
