// Derived state of one processor: fast tables, block cache, jump cache. All of it can be dropped at any
// instant between instructions.
#ifndef CPU_ENGINE_H
#define CPU_ENGINE_H

#include "cpu/engine/insn.h"

#define BLOCK_HASH_BITS  16
#define BLOCK_ARENA      (192u << 20) // reserved; the host gives memory for what is used of it, in steps of
#define BLOCK_ARENA_STEP (1u << 20)
#define BLOCK_INSNS_MAX  64
#define JUMP_BITS        13
#define GENERATIONS      64 // in sets
#define GENERATION_WAYS  4

struct jump_entry { // RIP -> block, for one generation
    u64 rip;
    struct block *b;
    u32 gen;
    u32 pad;
    u64 pad2;
};

// (serial 0: of global pages) // the fetch generation of a (context, mode): links made under it are good
// under it
struct generation {
    u32 serial, global_serial, mode, rights, gen;
    u64 apic_access; // mmu_ctx.apic_access: a page that no code comes from
};

#define FAST_NOTED 31 // short-lived tables (world switches without VPIDs) are cleared where they were filled

struct page_code {       // of one physical page, as one processor knows it
    struct block *first; // of those that begin in it (page_next)
    u64 lines;           // that they were decoded from
};
#define GROUP_PAGES 512 // 2 MiB
struct page_group {
    struct page_group *next;
    paddr start;
    struct page_code page[GROUP_PAGES];
};

struct engine {
    void *memory; // of the host, that it lies in: aligned, so that no entry of jump lies in two lines
    struct fast_tlb *tables; // FAST_TABLES
    struct fast_key keys[FAST_TABLES];
    u32 next_table, table; // round-robin replacement; the one in use
    // where each table was filled; n > FAST_NOTED: anywhere
    struct {
        u16 n, at[FAST_NOTED];
    } filled[FAST_TABLES];
    // what the instruction and data TLB said of themselves when their mirrors were last right
    u32 drops[2], restarts[2];
    u32 next_gen;
    struct generation generations[GENERATIONS]; // of each set, the ones used last come first
    u8 *arena;
    size_t arena_used;          // bytes
    struct page_group **groups; // by physical address; NULL where no code has been
    struct block *hash[1u << BLOCK_HASH_BITS];
    _Alignas(64) struct jump_entry jump[1u << JUMP_BITS];
    struct page_group *grouped;                // those that there are
    size_t arena_open;                         // bytes of the arena that the host has been asked for
    u64 blocks_built, blocks_dropped, flushes; // statistics, of the engine and not of the machine
    u64 lookups, links;
    struct decoder *decoder; // cpu/engine/decode.c
    // Found in place of a block whose page has an instruction breakpoint: it cannot be entered.
    _Alignas(32) u8 looking[sizeof(struct block) + sizeof(struct insn)];
};

// A link within a page needs no generation: who runs in the page has its translation, and whatever changes
// that ends the block and looks up anew.
#define GEN_SAME_PAGE UINT32_MAX
// Fetch generations are counted with 32 bits, which last for half an hour of world switches. After this one
// all blocks and links are forgotten, between two instructions, and the count begins anew; what an
// instruction may still use up fits in the rest.
#define GEN_LAST      (UINT32_MAX - (1u << 20))

// What stands behind the last instruction of a block: its branch, or the pseudo-instruction exec_fallthrough
// where it ends for its length or at the end of its page.
struct block_end {
    // The link: where it goes, once resolved. [0] not taken / fall through, [1] taken.
    struct block *b[2];
    u32 gen[2];
    // of the block that it ends: at another linear address of the same page the next page may be another
    u64 rip;
    // Of a block whose instruction crosses into a second page, and only there: that page's bytes when it was
    // decoded.
    u8 crossing[16];
};
#define BLOCK_END_SIZE(crosses) ((crosses) ? sizeof(struct block_end) : offsetof(struct block_end, crossing))
static inline struct block_end *insn_end(const struct insn *last)
{
    return (struct block_end *)((uintptr_t)last + sizeof *last);
}

struct engine *engine_new(const struct phys *phys);
void engine_free(struct engine *e);

// The block that starts at s.rip in the present mode and context, decoded if need be. Raises #PF, #GP on
// fetch.
// At a page with an instruction breakpoint it is one that cannot be entered; what is there block_here finds.
RAISES struct block *block_find(struct vcpu *v);
RAISES struct block *block_here(struct vcpu *v);
void block_flush(struct engine *e, struct phys *phys); // forgets all blocks
// For the processor's subscription to its memory: drops the blocks decoded from [a, a + size), in one page;
// and the lines of a page that blocks are left of.
void block_code_written(struct vcpu *v, paddr a, u64 size);
u64 block_code_lines(const struct engine *e, paddr page);
// The rows by opcode, and Zydis: made once, never written again. NULL: the host has no memory.
struct decoder *decoder_new(void);
void decoder_free(struct decoder *d);
// Decodes one instruction of at most `n` bytes. `avail` short of the instruction: returns 0 (needs more
// bytes). Else its length.
unsigned decode_insn(struct vcpu *v, const u8 *bytes, unsigned n, u32 mode, struct insn *in);

static inline u32 jump_hash(u64 rip) { return (u32)(rip ^ rip >> 13) & ((1u << JUMP_BITS) - 1); }

#endif
