/* Extended page tables, four levels. See vmx.h. */
#include "vmx.h"

uint64_t ept_new(void) { return (uint64_t)page_alloc(1); }

uint64_t *ept_entry(uint64_t root, uint64_t guest_physical, unsigned level)
{
    uint64_t *table = (uint64_t *)root;
    for (unsigned at = 4;; at--) {
        uint64_t *entry = &table[guest_physical >> (12 + 9 * (at - 1)) & 511];
        if (at == level) return entry;
        /* The rights of an address are the AND over the levels: upper ones grant all, the leaf decides. */
        if (!(*entry & EPT_RWX)) *entry = (uint64_t)page_alloc(1) | EPT_RWX;
        if (*entry & EPT_LARGE) panic("ept_entry: %lx is mapped by a large page", guest_physical);
        table = (uint64_t *)(*entry & PTE_ADDRESS);
    }
}

void ept_map(uint64_t root, uint64_t guest_physical, uint64_t physical, uint64_t size, uint64_t rights)
{
    for (uint64_t at = 0; at < size; at += 4096)
        *ept_entry(root, guest_physical + at, 1) = (physical + at) | EPT_TYPE_WB | rights;
}

void ept_map_large(uint64_t root, uint64_t guest_physical, uint64_t physical, uint64_t rights)
{
    *ept_entry(root, guest_physical, 2) = physical | EPT_TYPE_WB | EPT_LARGE | rights;
}

uint64_t ept_pointer(uint64_t root)
{
    uint64_t write_back = rdmsr(IA32_VMX_EPT_VPID_CAP) & 1u << 14 ? 6 : 0;
    return root | 3 << 3 | write_back;
}
