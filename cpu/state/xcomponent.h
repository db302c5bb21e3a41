// The state components that XSAVE and its relatives manage (SDM volume 1, 13.1), one line each. x87 (0) and
// SSE (1) lie in the legacy region of every area and have no line.
//
// XCOMPONENT(number, NAME, feature, offset in the standard format, bytes, in IA32_XSS, aligned on 64 bytes in
//            the compacted format)
//   of a component that IA32_XSS enables, the standard format has none: offset 0.
// With a line go two functions in cpu/instructions/xsave.c: xcomp_NAME_fill and xcomp_NAME_take.
#ifndef CPU_XCOMPONENT_H
#define CPU_XCOMPONENT_H

#include "mmu/types.h"

#define XCOMPONENTS(X) \
    X(2, AVX, AVX, 0x240, 0x100, 0, 0) \
    X(9, PKRU, PKU, 0xA80, 8, 0, 0)

#define XCOMPONENT_BIT(number, name, ...)                         XCOMP_##name = 1 << number,
#define XCOMPONENT_SUM(number, name, feature, offset, bytes, ...) +(bytes)
enum { XCOMP_X87 = 1, XCOMP_SSE = 2, XCOMPONENTS(XCOMPONENT_BIT) };
enum {
    XSAVE_LEGACY = 512,
    XSAVE_HEADER = 64,
    XSAVE_EXTENDED = 0 XCOMPONENTS(XCOMPONENT_SUM), // bytes of all components that have a line
};
#undef XCOMPONENT_SUM
#undef XCOMPONENT_BIT
#define XCOMP_MXCSR_USERS (XCOMP_SSE | XCOMP_AVX) // the saves and loads of which take MXCSR along

struct cpu_features;

struct xcomponent {
    u8 number, feature;
    u16 offset, bytes;
    bool supervisor, aligned;
};
extern const struct xcomponent xcomponents[];
extern const unsigned xcomponents_n;
// The components that XCR0 can enable with these features, or IA32_XSS.
u64 xcomponents_user(const struct cpu_features *f);
u64 xcomponents_supervisor(const struct cpu_features *f);
// Where a component stands in an area whose XCOMP_BV names these components; 0 as `components`: in the
// standard format.
u32 xcomponent_offset(const struct xcomponent *c, u64 components);
// Bytes of an area with these components.
u32 xcomponents_size(u64 components, bool compact);

#endif
