// Port 92h: fast A20 and fast reset.
#ifndef DEVICES_PORT92_H
#define DEVICES_PORT92_H

#include "devices/bus.h"

STATE_BEGIN
struct port92_state {
    u8 value;
};
STATE_END

struct port92 {
    struct device dev;
    struct port92_state st;
    void (*reset_line)(void *to);
    void (*a20)(void *to); // ask port92_a20
    void *to;
};

void port92_init(struct port92 *p, struct bus *b, struct clock *c);
static inline bool port92_a20(const struct port92 *p) { return p->st.value >> 1 & 1; }

#endif
