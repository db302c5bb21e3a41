// All plain state of a machine, in one list: what the state hash covers, what a copy of a machine is made of.
// Whatever is not in the list and not RAM follows from it (machine_loaded), or from the configuration that
// the machine was made with.
//
// A saved state is bytes in the host's memory, for the same program: between machines, into the past, from
// one process to its child. Whether they are whole is checked, what they say is not: it must come from
// machine_state_save. Not here: compression, checksums, names that outlive a program; a file of it needs
// those.
#ifndef DEVICES_MACHINE_STATE_H
#define DEVICES_MACHINE_STATE_H

#include "devices/machine.h"

#define STATE_PARTS_MAX 192
#define STATE_NAME_MAX  24

enum state_owner { STATE_OF_BOARD, STATE_OF_CPU, STATE_OF_DEVICE };

struct state_part { // one struct of fixed-width fields, no pointers
    const char *name;
    u32 index;   // the how manieth of that name
    u32 version; // of the struct and of those in it: one more with each change of layout or meaning
    u32 size;
    enum state_owner owner;
    void *data;
};

// Fills `part` in the order in which the board is wired; returns how many there are.
unsigned machine_state_parts(struct machine *m, struct state_part part[STATE_PARTS_MAX]);

struct state_bytes { // starts zeroed; used again, it keeps its memory
    u8 *at;
    u64 size, room;
};

// Between runs, of a machine that nothing has asked to end. False, and a line in `why`, if it cannot be
// saved.
bool machine_state_save(struct machine *m, struct state_bytes *to, char *why, size_t why_size);
// Into a machine of the same configuration. False, and a line in `why`, if the bytes are not a state of such
// a machine or of this program's versions; then nothing has changed.
bool machine_state_load(struct machine *m, const u8 *from, u64 size, char *why, size_t why_size);
void state_bytes_free(struct state_bytes *b);

#endif
