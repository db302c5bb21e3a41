// Integer and address types, and the few helpers that everything uses. The lowest header of the house.
#ifndef MMU_TYPES_H
#define MMU_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "Matryoshka runs on little-endian hosts only: guest memory and host memory share one layout."
#endif

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;

// Addresses of three kinds. The first two are structs, so that the compiler finds where one is taken for
// another: only who translates makes one of the other.
typedef struct {
    u64 at;
} laddr; // linear: after segmentation, before paging
typedef struct {
    u64 at;
} gpaddr;          // guest-physical: after paging, before EPT
typedef u64 paddr; // physical: what the memory of the machine answers to

static inline laddr laddr_of(u64 at) { return (laddr){at}; }
static inline gpaddr gpaddr_of(u64 at) { return (gpaddr){at}; }

#define likely(x)    __builtin_expect(!!(x), 1)
#define unlikely(x)  __builtin_expect(!!(x), 0)
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define BIT(n)       (1ull << (n))

#define PAGE_SHIFT   12
#define PAGE_SIZE    4096ull
#define PAGE_MASK    (~(PAGE_SIZE - 1))

// A prototype marked RAISES may unwind to the run loop (an exception, a VM exit): nothing of the host
// (memory, lock, FILE) may be held across a call to it. Static functions go without the mark, and so do what
// runs an instruction (exec_fn) and what only raises (_Noreturn): tests/raises compares the headers with the
// call graph.
#define RAISES

// Around the structs of architectural state: padding in them is an error, since snapshots copy and the state
// hash covers every byte, and a byte without a name has no value.
#define STATE_BEGIN _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic error \"-Wpadded\"")
#define STATE_END   _Pragma("GCC diagnostic pop")

// The impossible happened: print what and where, and abort. Never reachable by what a guest does.
_Noreturn void panic(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
