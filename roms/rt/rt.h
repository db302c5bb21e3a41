/*
 * The runtime of the guest images: what a freestanding program on a bare x86-64 machine starts with.
 *
 * An image's C part begins at `int rom_main(void)`, in 64-bit mode, identity-mapped, interrupts off, on a 32
 * KiB stack. What it returns becomes the exit value (rt_exit).
 *
 * More than one processor: smp.h. Missing: memory above 4 GiB, freeing memory.
 */
#ifndef RT_RT_H
#define RT_RT_H

#include "cpu.h"

/* Selectors of rt_gdt (boot.S). */
#define SEL_CODE64      0x08
#define SEL_DATA        0x10
#define SEL_CODE32      0x18
#define SEL_CODE16      0x20
#define SEL_DATA16      0x28
#define SEL_USER_CODE32 0x33
#define SEL_USER_DATA   0x3b
#define SEL_USER_CODE64 0x43
#define SEL_TSS         0x48
#define SEL_SPARE       0x58 /* the first of 16 descriptors that tests may fill in */

extern uint64_t rt_gdt[];
extern uint64_t rt_gdt_end[];
extern uint64_t rt_pml4[512];

int rom_main(void);

/* Serial console on COM1, polled. */
void console_init(void);
void console_putc(char c);
/* Waits until the last character has left. */
void console_drain(void);

/* %c %s %d %u %x %p with width, 0, -, l, ll, z and %%. */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
void vprint(const char *format, __builtin_va_list ap);

/* Leaves the machine: isa-debug-exit (QEMU reports the status (value << 1) | 1), then the "Shutdown" port of
   Bochs and kin, then HLT for ever. */
_Noreturn void rt_exit(uint8_t value);
_Noreturn void panic(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The boot loader's command line ("" if none). A loader may or may not put the file's name first. */
const char *cmdline(void);
/* Is `word` one of its words? */
bool cmdline_has(const char *word);
/* What follows "key=" up to the end of the line, or NULL. */
const char *cmdline_text(const char *key);
/* The number after "key=", decimal or 0x and lower-case hexadecimal, or `otherwise`. */
uint64_t cmdline_number(const char *key, uint64_t otherwise);

/* Zeroed pages, physical address = linear address. Never freed. */
void *page_alloc(unsigned count);
/* The same, aligned to `alignment` bytes (a power of two). */
void *page_alloc_aligned(unsigned count, uint64_t alignment);

/* Paging of the running table (rt_pml4): maps one 4 KiB page; missing levels are made with P, W and U set. */
#define PTE_P       (1ull << 0)
#define PTE_W       (1ull << 1)
#define PTE_U       (1ull << 2)
#define PTE_PWT     (1ull << 3)
#define PTE_PCD     (1ull << 4)
#define PTE_A       (1ull << 5)
#define PTE_D       (1ull << 6)
#define PTE_PS      (1ull << 7)
#define PTE_G       (1ull << 8)
#define PTE_NX      (1ull << 63)
#define PTE_ADDRESS 0x000ffffffffff000ull
void paging_map(uint64_t linear, uint64_t physical, uint64_t flags);
/* The entry that maps `linear` at `level` (1 = PTE, 2 = PDE, 3 = PDPTE, 4 = PML4E), making missing levels
 * above. */
uint64_t *paging_entry(uint64_t linear, unsigned level);

void *memset(void *to, int value, size_t n);
void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);

#endif
