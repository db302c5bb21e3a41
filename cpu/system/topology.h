// Sockets, dies, cores and threads: which logical processor is which, and the APIC IDs that say so.
//
// An initial APIC ID is made of fields, from bit 0 up: thread, core, die, package; each as wide as its number
// of members needs (SDM volume 3, "Hierarchical Mapping of Shared Resources"). Numbers of members that are no
// power of two leave gaps between the IDs.
#ifndef CPU_TOPOLOGY_H
#define CPU_TOPOLOGY_H

#include "mmu/types.h"

struct cpu_topology {
    u16 sockets, dies, cores, threads; // of the machine, a socket, a die, a core; 0 counts as 1
};

enum topology_level { TOPOLOGY_THREAD, TOPOLOGY_CORE, TOPOLOGY_DIE, TOPOLOGY_SOCKET };

// Logical processors in one core (TOPOLOGY_THREAD), die (CORE), socket (DIE), and in the machine (SOCKET).
static inline u32 topology_members(const struct cpu_topology *t, enum topology_level level)
{
    const u32 n[] = {t->threads, t->cores, t->dies, t->sockets};
    u32 all = 1;
    for (unsigned i = 0; i <= (unsigned)level; i++) all *= n[i] ? n[i] : 1;
    return all;
}
// Bits of the APIC ID that tell members of one level apart and those below it.
u32 topology_shift(const struct cpu_topology *t, enum topology_level level);
// The initial APIC ID of logical processor `index`, counted thread by thread, core by core.
u32 topology_apic_id(const struct cpu_topology *t, u32 index);

#endif
