// APIC IDs by topology.
#include "cpu/system/topology.h"

static u32 width(u32 n)
{
    u32 bits = 0;
    while (1u << bits < n) bits++;
    return bits;
}

u32 topology_shift(const struct cpu_topology *t, enum topology_level level)
{
    u32 bits = width(t->threads);
    if (level >= TOPOLOGY_CORE) bits += width(t->cores);
    if (level >= TOPOLOGY_DIE) bits += width(t->dies);
    if (level >= TOPOLOGY_SOCKET) bits += width(t->sockets);
    return bits;
}

u32 topology_apic_id(const struct cpu_topology *t, u32 index)
{
    u32 in_core = topology_members(t, TOPOLOGY_THREAD), in_die = topology_members(t, TOPOLOGY_CORE),
        in_socket = topology_members(t, TOPOLOGY_DIE);
    u32 thread = index % in_core, core = index % in_die / in_core, die = index % in_socket / in_die;
    return thread | core << topology_shift(t, TOPOLOGY_THREAD) | die << topology_shift(t, TOPOLOGY_CORE) |
           index / in_socket << topology_shift(t, TOPOLOGY_DIE);
}
