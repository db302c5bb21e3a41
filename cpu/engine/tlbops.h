// The processor's side of both TLB levels.
#ifndef CPU_TLBOPS_H
#define CPU_TLBOPS_H

#include "cpu/engine/engine.h"

// Translation through the architectural data TLB, filled on a miss. Valid until the next translation.
RAISES const struct tlb_entry *tlbops_data(struct vcpu *v, laddr la, u32 acc);
// Whether the page of `la`, just translated, may be written as a whole: not by sub-page permissions alone.
bool tlbops_whole_page(struct vcpu *v, laddr la);
// Translation of an instruction fetch through the instruction TLB.
RAISES paddr tlbops_fetch(struct vcpu *v, laddr la);
// Lets following accesses of this kind to the page go straight to the host's memory.
void tlbops_fill_fast(struct vcpu *v, laddr la, const struct tlb_entry *e, u32 acc);

// Fetch generations have run out (GEN_LAST): forgets all code and begins anew. No block may be running.
void tlbops_restart_generations(struct vcpu *v);

// For breakpoints: forgets all links and jump-cache entries, so that whoever goes on is looked up anew; and
// what the fast tables hold of the page of `la`.
void tlbops_drop_links(struct vcpu *v);
void tlbops_drop_linear(struct vcpu *v, laddr la);

#endif
