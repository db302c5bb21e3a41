// The state hash: one number for all architectural state (processors with their TLBs, devices, RAM). Two runs
// agree when their hashes do. RAM is hashed page by page, and only pages written since the last time are
// hashed again.
#ifndef DEVICES_STATE_HASH_H
#define DEVICES_STATE_HASH_H

#include "devices/machine.h"

struct state_hash { // derived: starts zeroed
    u64 *page;      // the hash of each page at its last change; 0: a page of zeros
    u64 pages;
    u64 sum; // of all of them, mixed with the page number
};
u64 state_hash(struct state_hash *h, struct machine *m); // between instructions only
void state_hash_free(struct state_hash *h);
u64 state_hash_bytes(const void *data, u64 n); // of any bytes: a file's contents
u64 state_hash_cpu(const struct vcpu *v);      // one processor alone
// The parts by name, for who looks for what differs: registers and MSRs, each TLB, each device, each page of
// RAM that is not all zeros. Call after state_hash().
void state_hash_parts(const struct state_hash *h, struct machine *m,
                      void (*put)(void *opaque, const char *name, u64 hash), void *opaque);

#endif
