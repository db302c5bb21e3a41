/* The guest's memory. See lecture.h. */
#include "lecture.h"

uint8_t *guest_memory;

/* Two MiB of RAM appear at GUEST_AT, one large page that ring 3 may use: all that it may. */
static void make_memory(void)
{
    guest_memory = page_alloc_aligned(GUEST_SIZE / 4096, GUEST_SIZE);
    *paging_entry(GUEST_AT, 2) = (uint64_t)guest_memory | PTE_P | PTE_W | PTE_U | PTE_PS;
    invlpg(GUEST_AT);
}

/* For a guest that believes it has a machine: page tables that map GUEST_AT to its physical 0, a GDT, a TSS.
 */
static void make_tables(void)
{
    uint64_t *t = (uint64_t *)(guest_memory + GUEST_PAGES), *gdt = (uint64_t *)(guest_memory + 0x13000);
    t[0] = (GUEST_PAGES + 0x1000) | PTE_P | PTE_W | PTE_U;
    t[512 + GUEST_AT / 0x40000000] = (GUEST_PAGES + 0x2000) | PTE_P | PTE_W | PTE_U;
    t[1024] = 0 | PTE_P | PTE_W | PTE_U | PTE_PS;
    gdt[1] = 0x00af9b000000ffff; /* 08 code, 10 data; SYSEXIT to 64-bit mode wants +32 and +40: */
    gdt[2] = 0x00cf93000000ffff;
    gdt[5] = 0x00affb000000ffff; /* 28 the application's code, 30 its data */
    gdt[6] = 0x00cff3000000ffff;
    uint64_t tss = GUEST_AT + 0x15000;
    gdt[8] = 0x67 | (tss & 0xffffff) << 16 | 0x89ull << 40 | (tss >> 24 & 0xff) << 56;
    *(uint64_t *)(guest_memory + 0x15004) = GUEST_STACK; /* RSP0 */
}

void guest_load(const uint8_t *kernel, const uint8_t *kernel_end, const uint8_t *app, const uint8_t *app_end)
{
    if (!guest_memory) make_memory();
    memset(guest_memory, 0, 0x20000);
    make_tables();
    memcpy(guest_memory + (GUEST_CODE - GUEST_AT), kernel, (size_t)(kernel_end - kernel));
    if (app) memcpy(guest_memory + (GUEST_APP - GUEST_AT), app, (size_t)(app_end - app));
    counts_clear();
}

uint64_t guest_word(unsigned i)
{
    uint64_t v;
    memcpy(&v, guest_memory + 8 * i, 8);
    return v;
}
