// From one always-inline body F(v, in, args..., width, form, nf, fast) to its `struct body`: loop versions by width,
// tail-threaded wrappers by width and form, and for the register form one that leaves dead flags alone.
#ifndef CPU_BODIES_H
#define CPU_BODIES_H

#include "cpu/fast.h"

#define BODY_W_(name, s, W, F, ...)                                                                                    \
    LOOP(name##_l##s, F(v, in, __VA_ARGS__, W, FORM_REG, false, false))                                                \
    FAST(name##_r##s, F(v, in, __VA_ARGS__, W, FORM_REG, false, true))                                                 \
    THREADED(name##_n##s, F(v, in, __VA_ARGS__, W, FORM_REG, true, true))                                              \
    FAST(name##_b##s, F(v, in, __VA_ARGS__, W, FORM_B, false, true))                                                   \
    FAST(name##_x##s, F(v, in, __VA_ARGS__, W, FORM_X, false, true))                                                   \
    FAST(name##_s##s, F(v, in, __VA_ARGS__, W, FORM_S, false, true))
#define BODY_FORMS_(name, s) {name##_r##s, name##_b##s, name##_x##s, name##_s##s}
#define BODY_CALLS_(name, s) {name##_r##s##_call, name##_b##s##_call, name##_x##s##_call, name##_s##s##_call}
// All four widths, register and memory.
#define BODY4(name, F, ...)                                                                                            \
    BODY_W_(name, 8, W8, F, __VA_ARGS__)                                                                               \
    BODY_W_(name, 16, W16, F, __VA_ARGS__)                                                                             \
    BODY_W_(name, 32, W32, F, __VA_ARGS__)                                                                             \
    BODY_W_(name, 64, W64, F, __VA_ARGS__)                                                                             \
    const struct body body_##name = {                                                                                  \
        .loop = {name##_l8, name##_l16, name##_l32, name##_l64},                                                       \
        .fast = {{BODY_FORMS_(name, 8), BODY_FORMS_(name, 16), BODY_FORMS_(name, 32), BODY_FORMS_(name, 64)},          \
                 {{name##_n8}, {name##_n16}, {name##_n32}, {name##_n64}}},                                             \
        .call = {BODY_CALLS_(name, 8), BODY_CALLS_(name, 16), BODY_CALLS_(name, 32), BODY_CALLS_(name, 64)}};
// All four widths, no memory operand.
#define BODY_WR_(name, s, W, F, ...)                                                                                   \
    LOOP(name##_l##s, F(v, in, __VA_ARGS__, W, FORM_REG, false, false))                                                \
    FAST(name##_r##s, F(v, in, __VA_ARGS__, W, FORM_REG, false, true))                                                 \
    THREADED(name##_n##s, F(v, in, __VA_ARGS__, W, FORM_REG, true, true))
#define BODY4R(name, F, ...)                                                                                           \
    BODY_WR_(name, 8, W8, F, __VA_ARGS__)                                                                              \
    BODY_WR_(name, 16, W16, F, __VA_ARGS__)                                                                            \
    BODY_WR_(name, 32, W32, F, __VA_ARGS__)                                                                            \
    BODY_WR_(name, 64, W64, F, __VA_ARGS__)                                                                            \
    const struct body body_##name = {.loop = {name##_l8, name##_l16, name##_l32, name##_l64},                          \
                                     .fast = {{{name##_r8}, {name##_r16}, {name##_r32}, {name##_r64}},                 \
                                              {{name##_n8}, {name##_n16}, {name##_n32}, {name##_n64}}},                \
                                     .call = {{name##_r8_call}, {name##_r16_call}, {name##_r32_call}, {name##_r64_call}}};

#endif
