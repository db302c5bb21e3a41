// clang-format off
// From one always-inline body to its `struct body`.
//
// A body is   bool f(struct vcpu *v, const struct insn *in, struct how h, ...constants)
// `h` says which form is being made; all of it is constant. Checked, it raises what there is to raise, and returns true. At speed it
// returns false if it cannot go on without leaving the fast path (a miss of the fast TLB); nothing may have changed by then.
// From it come
//   checked         for the loop, exec_slow and exec_checked
//   tail-threaded   ends in a sibling call to the next instruction, or, where the body cannot go on, to exec_slow
//   callable        returns what the body does
// A tail-threaded wrapper has no frame: at most four register arguments, no local whose address escapes, every call a sibling call.
//
// The macros take the whole name of the `struct body`, as the rows have it, then f and its constants:
//   BODY4(name, f, ...)       made for each width, with register and memory operands
//   BODY4_REG(name, f, ...)   for each width, without a memory operand
//   BODY_Y(name, f, ...)      for 32 and 64 bits, as an operand of size y has them
//   BODY_X(name, f, ...)      once: the operand size says nothing (h.w is W32)
//   BODY_X_REG(name, f, ...)  once, without a memory operand
//   BODY_L(name, f, ...)      with VEX, for 128 and 256 bits: h.w is W32 or W64
//   BODY_L_REG(name, f, ...)  the same, without a memory operand
//   BODY_LIG(name, f, ...)    with VEX whose length is ignored: h.w is W32
// Those with VEX are not made for FORM_S.
// The functions are called name_8_l (checked), name_8_r, _b, _x, _s (tail-threaded, by form), _n (flags dead), name_8_r_call ...
// clang-format on
#ifndef CPU_BODIES_H
#define CPU_BODIES_H

#include "cpu/engine/fast.h"

// clang-format off
#define CHECKED_(fn, W, f, ...)                                                                                        \
    static void fn(struct vcpu *v, const struct insn *in) { (void)f(v, in, (struct how){.w = W}, ##__VA_ARGS__); }
// clang-format on
#define THREADED_(fn, W, FORM, NF, f, ...) \
    static void fn(struct vcpu *v, const struct insn *in) \
    { \
        const struct how h = {.w = W, .form = FORM, .nf = NF, .fast = true}; \
        if (unlikely(!f(v, in, h, ##__VA_ARGS__))) TAIL exec_slow(v, in); \
        TAIL in[1].exec(v, in + 1); \
    }
// Away from the wrappers: who runs those does not run these.
#define CALLABLE_(fn, W, FORM, f, ...) \
    __attribute__((section(".text.unlikely.callable"))) static bool fn(struct vcpu *v, \
                                                                       const struct insn *in) \
    { \
        return f(v, in, (struct how){.w = W, .form = FORM, .fast = true}, ##__VA_ARGS__); \
    }
#define BODY_FORM_(fn, W, FORM, f, ...) \
    THREADED_(fn, W, FORM, false, f, ##__VA_ARGS__) \
    CALLABLE_(fn##_call, W, FORM, f, ##__VA_ARGS__)
#define BODY_REG_(name, W, f, ...) \
    CHECKED_(name##_l, W, f, ##__VA_ARGS__) \
    BODY_FORM_(name##_r, W, FORM_REG, f, ##__VA_ARGS__)
#define BODY_ANY_(name, W, f, ...) \
    BODY_REG_(name, W, f, ##__VA_ARGS__) \
    BODY_FORM_(name##_b, W, FORM_B, f, ##__VA_ARGS__) \
    BODY_FORM_(name##_x, W, FORM_X, f, ##__VA_ARGS__) \
    BODY_FORM_(name##_s, W, FORM_S, f, ##__VA_ARGS__)
#define BODY_FORMS_(name) \
    { \
        name##_r, name##_b, name##_x, name##_s \
    }
#define BODY_CALLS_(name) \
    { \
        name##_r_call, name##_b_call, name##_x_call, name##_s_call \
    }
#define BODY_DEAD_(name, f, ...) \
    THREADED_(name##_8_n, W8, FORM_REG, true, f, ##__VA_ARGS__) \
    THREADED_(name##_16_n, W16, FORM_REG, true, f, ##__VA_ARGS__) \
    THREADED_(name##_32_n, W32, FORM_REG, true, f, ##__VA_ARGS__) \
    THREADED_(name##_64_n, W64, FORM_REG, true, f, ##__VA_ARGS__)

#define BODY4(name, f, ...) \
    BODY_ANY_(name##_8, W8, f, ##__VA_ARGS__) \
    BODY_ANY_(name##_16, W16, f, ##__VA_ARGS__) \
    BODY_ANY_(name##_32, W32, f, ##__VA_ARGS__) \
    BODY_ANY_(name##_64, W64, f, ##__VA_ARGS__) \
    BODY_DEAD_(name, f, ##__VA_ARGS__) \
    const struct body name = {.checked = {name##_8_l, name##_16_l, name##_32_l, name##_64_l}, \
                              .fast = {{BODY_FORMS_(name##_8), BODY_FORMS_(name##_16), \
                                        BODY_FORMS_(name##_32), BODY_FORMS_(name##_64)}, \
                                       {{name##_8_n}, {name##_16_n}, {name##_32_n}, {name##_64_n}}}, \
                              .call = {BODY_CALLS_(name##_8), BODY_CALLS_(name##_16), \
                                       BODY_CALLS_(name##_32), BODY_CALLS_(name##_64)}};
#define BODY4_REG(name, f, ...) \
    BODY_REG_(name##_8, W8, f, ##__VA_ARGS__) \
    BODY_REG_(name##_16, W16, f, ##__VA_ARGS__) \
    BODY_REG_(name##_32, W32, f, ##__VA_ARGS__) \
    BODY_REG_(name##_64, W64, f, ##__VA_ARGS__) \
    BODY_DEAD_(name, f, ##__VA_ARGS__) \
    const struct body name = { \
        .checked = {name##_8_l, name##_16_l, name##_32_l, name##_64_l}, \
        .fast = {{{name##_8_r}, {name##_16_r}, {name##_32_r}, {name##_64_r}}, \
                 {{name##_8_n}, {name##_16_n}, {name##_32_n}, {name##_64_n}}}, \
        .call = {{name##_8_r_call}, {name##_16_r_call}, {name##_32_r_call}, {name##_64_r_call}}};
#define BODY_Y(name, f, ...) \
    BODY_ANY_(name##_32, W32, f, ##__VA_ARGS__) \
    BODY_ANY_(name##_64, W64, f, ##__VA_ARGS__) \
    const struct body name = { \
        .checked = {name##_32_l, name##_32_l, name##_32_l, name##_64_l}, \
        .fast = {{{NULL}, BODY_FORMS_(name##_32), BODY_FORMS_(name##_32), BODY_FORMS_(name##_64)}}, \
        .call = {{NULL}, BODY_CALLS_(name##_32), BODY_CALLS_(name##_32), BODY_CALLS_(name##_64)}};
#define BODY_X(name, f, ...) \
    BODY_ANY_(name, W32, f, ##__VA_ARGS__) \
    const struct body name = {.checked = {name##_l, name##_l, name##_l, name##_l}, \
                              .fast = {{{NULL}, BODY_FORMS_(name), BODY_FORMS_(name), BODY_FORMS_(name)}}, \
                              .call = {{NULL}, BODY_CALLS_(name), BODY_CALLS_(name), BODY_CALLS_(name)}};
#define BODY_X_REG(name, f, ...) \
    BODY_REG_(name, W32, f, ##__VA_ARGS__) \
    const struct body name = {.checked = {name##_l, name##_l, name##_l, name##_l}, \
                              .fast = {{{NULL}, {name##_r}, {name##_r}, {name##_r}}}, \
                              .call = {{NULL}, {name##_r_call}, {name##_r_call}, {name##_r_call}}};

// With VEX, away from those without too: the code that a guest's SSE runs in stays together.
#define VEX_TEXT_ __attribute__((section(".text.unlikely.vex")))
// clang-format off
#define BODY_VEX_(name, W, f, ...) \
    VEX_TEXT_ CHECKED_(name##_l, W, f, ##__VA_ARGS__) \
    VEX_TEXT_ BODY_FORM_(name##_r, W, FORM_REG, f, ##__VA_ARGS__) \
    VEX_TEXT_ BODY_FORM_(name##_b, W, FORM_B, f, ##__VA_ARGS__) \
    VEX_TEXT_ BODY_FORM_(name##_x, W, FORM_X, f, ##__VA_ARGS__)
#define BODY_VEX_REG_(name, W, f, ...) \
    VEX_TEXT_ CHECKED_(name##_l, W, f, ##__VA_ARGS__) \
    VEX_TEXT_ BODY_FORM_(name##_r, W, FORM_REG, f, ##__VA_ARGS__)
#define BODY_VEX_FORMS_(name) {name##_r, name##_b, name##_x}
#define BODY_VEX_CALLS_(name) {name##_r_call, name##_b_call, name##_x_call}
#define BODY_L(name, f, ...) \
    BODY_VEX_(name##_128, W32, f, ##__VA_ARGS__) \
    BODY_VEX_(name##_256, W64, f, ##__VA_ARGS__) \
    const struct body name = {.checked = {name##_128_l, name##_128_l, name##_128_l, name##_256_l}, \
                              .fast = {{{NULL}, {NULL}, BODY_VEX_FORMS_(name##_128), BODY_VEX_FORMS_(name##_256)}}, \
                              .call = {{NULL}, {NULL}, BODY_VEX_CALLS_(name##_128), BODY_VEX_CALLS_(name##_256)}};
#define BODY_L_REG(name, f, ...) \
    BODY_VEX_REG_(name##_128, W32, f, ##__VA_ARGS__) \
    BODY_VEX_REG_(name##_256, W64, f, ##__VA_ARGS__) \
    const struct body name = {.checked = {name##_128_l, name##_128_l, name##_128_l, name##_256_l}, \
                              .fast = {{{NULL}, {NULL}, {name##_128_r}, {name##_256_r}}}, \
                              .call = {{NULL}, {NULL}, {name##_128_r_call}, {name##_256_r_call}}};
#define BODY_LIG(name, f, ...) \
    BODY_VEX_(name, W32, f, ##__VA_ARGS__) \
    const struct body name = {.checked = {name##_l, name##_l, name##_l, name##_l}, \
                              .fast = {{{NULL}, {NULL}, BODY_VEX_FORMS_(name)}}, \
                              .call = {{NULL}, {NULL}, BODY_VEX_CALLS_(name)}};
// clang-format on

#endif
